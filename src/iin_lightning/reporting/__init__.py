"""What people look at: data before a training, pages and workspaces about its results."""
