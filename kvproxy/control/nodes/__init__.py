"""What nodes say about themselves in their store, so that one can know what all of them serve."""
