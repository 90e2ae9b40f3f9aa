"""Write model.onnx for the audit: with an open batch, weights as they are, and nothing folded into anything."""

import warnings

import torch
from net import CLIP, net

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the exporter's own plans for later versions
    torch.onnx.export(
        net().eval(), (torch.zeros(1, *CLIP),), "model.onnx", dynamo=False, input_names=["clips"],
        output_names=["logits"], dynamic_axes={"clips": {0: "batch"}}, do_constant_folding=False, opset_version=17,
    )  # fmt: skip
