"""Record what an NVFlare client sends, for `fl-audit attack --update` and `fl-audit replay`.

Usage, as the last filter of task results, so that it sees what every defence before it left:

    "task_result_filters": [
      {"tasks": ["train"], "filters": [
        {"path": "nvflare.app_common.filters.percentile_privacy.PercentilePrivacy", "args": {}},
        {"path": "record_nvflare.Recorder", "args": {"folder": "recorded"}}]}]

Each result leaves a safetensors file, whose metadata tell its kind (WEIGHTS or WEIGHT_DIFF) and the local steps:

    fl-audit replay nets.py:factory --update recorded/sent-1.safetensors --clip mine.npz --algorithm fedavg ...
"""

from itertools import count
from pathlib import Path

import numpy as np
from nvflare.apis.dxo import DXO, DataKind, MetaKey
from nvflare.apis.dxo_filter import DXOFilter
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from safetensors.numpy import save_file

KINDS = [DataKind.WEIGHTS, DataKind.WEIGHT_DIFF]


class Recorder(DXOFilter):
    """A filter that writes weights, or their difference, and changes nothing."""

    def __init__(self, folder: str) -> None:
        super().__init__(supported_data_kinds=KINDS, data_kinds_to_filter=KINDS)
        self.folder = Path(folder)

    def process_dxo(self, dxo: DXO, shareable: Shareable, fl_ctx: FLContext) -> None:
        """Keep the arrays, and say that nothing was filtered."""
        self.folder.mkdir(parents=True, exist_ok=True)
        number = next(n for n in count(1) if not (self.folder / f"sent-{n}.safetensors").exists())
        told = {
            "kind": dxo.data_kind,
            MetaKey.NUM_STEPS_CURRENT_ROUND: dxo.get_meta_prop(MetaKey.NUM_STEPS_CURRENT_ROUND),
        }
        metadata = {str(getattr(key, "value", key)): str(getattr(value, "value", value)) for key, value in told.items()}
        arrays = {name: np.asarray(value, order="C") for name, value in dxo.data.items()}
        save_file(arrays, self.folder / f"sent-{number}.safetensors", metadata=metadata)
