"""From images and annotations to TFRecords."""
