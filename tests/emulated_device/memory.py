"""One piece of memory seen from two devices: the same bytes as a tensor of the processor and of the emulated device."""

import ctypes

import torch
from torch import Tensor

# Device types of the DLPack standard: the processor's, and the one that PyTorch reads as PrivateUse1.
_PROCESSOR, _EXTENSION = 1, 12
# In DLPack's `DLTensor` the device type follows the pointer to the data.
_DEVICE_TYPE = ctypes.sizeof(ctypes.c_void_p)

_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


def on_device(tensor: Tensor) -> Tensor:
    """Return a tensor of the emulated device over the same memory, with the same strides."""
    return _seen_from(_EXTENSION, tensor)


def on_processor(tensor: Tensor) -> Tensor:
    """Return a tensor of the processor over the memory of one of the emulated device."""
    return _seen_from(_PROCESSOR, tensor)


def _seen_from(device_type: int, tensor: Tensor) -> Tensor:
    # What is conjugated or negated when it is read is so on both sides; the bytes do not tell.
    if tensor.is_conj():
        return _seen_from(device_type, tensor.conj()).conj()
    if tensor.is_neg():
        return torch._neg_view(_seen_from(device_type, torch._neg_view(tensor)))
    if tensor.requires_grad:
        tensor = tensor.detach()
    capsule = torch._C._to_dlpack(tensor)
    ctypes.c_int32.from_address(_pointer(capsule, b"dltensor") + _DEVICE_TYPE).value = device_type
    return torch._C._from_dlpack(capsule)
