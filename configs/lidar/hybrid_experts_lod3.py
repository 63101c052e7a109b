# The three experts as one model: each patch goes to the expert of its size. Not trained as a whole: its checkpoint is
# made by tools/lidar/assemble_experts.py.
_base_ = './hybrid_mixed_100e_lod3.py'
model = dict(
    _delete_=True, type='ScaleExperts', dispatch='patch_size',
    experts={'50': _base_.model, '100': _base_.model, '150': _base_.model})
find_unused_parameters = True  # a batch may hold no patch of some expert's size
