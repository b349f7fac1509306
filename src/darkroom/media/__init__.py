"""Pictures in files: encoded whole, published atomically, with the recipe inside."""
