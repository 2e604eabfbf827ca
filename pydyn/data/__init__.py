"""From a source of images to device-resident batches: sources, splits, the image store."""
