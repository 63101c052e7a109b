# Five scales at test time.
_base_ = '../ftunetformer_s0-baseline_45e_landcover6-512.py'
tta_model = dict(scales=(0.5, 0.75, 1.0, 1.25, 1.5))
