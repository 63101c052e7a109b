"""Land cover from aerial images: FTUNetFormer, its losses, data sets and data tools."""
