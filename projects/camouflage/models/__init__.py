"""Networks of the camouflage room."""

from projects.camouflage.models.balance_loss import LoadBalanceLoss
from projects.camouflage.models.grouped_gate_head import GroupedGateHead
from projects.camouflage.models.model_level_moe import ModelLevelMoE
from projects.camouflage.models.pvt_v2 import PVTv2
from projects.camouflage.models.router import ExpertRouter

__all__ = ['ExpertRouter', 'GroupedGateHead', 'LoadBalanceLoss', 'ModelLevelMoE', 'PVTv2']
