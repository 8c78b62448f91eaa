"""The command ``explore``: a page in the browser on which anyone looks at what a trained model has found."""
