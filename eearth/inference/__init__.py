"""From a trained network to the map or the features of a region of any size."""
