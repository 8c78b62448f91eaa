"""What happens beside training: pictures, progress, stopping without loss."""
