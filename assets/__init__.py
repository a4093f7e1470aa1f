"""What the model teams of this company declare: one file per model, and the sources they read."""
