"""From a folder of images and masks to a prepared data set: checks, splits that share no ground, a hashed manifest."""
