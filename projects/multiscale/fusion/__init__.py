"""How the features of one image at several scales become one: fusers for a level of a pyramid."""
