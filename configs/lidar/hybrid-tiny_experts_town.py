# The three experts as one model, from tools/lidar/assemble_experts.py.
_base_ = './hybrid-tiny_mixed_town.py'
model = dict(
    _delete_=True, type='ScaleExperts', dispatch='patch_size',
    experts={'50': _base_.model, '100': _base_.model, '150': _base_.model})
