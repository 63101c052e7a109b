"""Licence-free camouflage: procedural photographs of objects that look like what they lie on."""
