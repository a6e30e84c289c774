"""What a layer is and does, told from the layer itself."""
