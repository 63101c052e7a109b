"""Camouflaged objects: PVTv2 over several scales of an input, gated decoders, and the field's measures."""
