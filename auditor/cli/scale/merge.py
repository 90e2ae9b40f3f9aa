"""`fl-audit merge`: the report of a scan that several machines made."""

from auditor.cli.scale.shard import put_together
from auditor.cli.scan import audit
from auditor.cli.signatures import takes_options
from auditor.cli.targets import no_empty_folders, targets_of
from auditor.cli.unfinished import unfinished_folder
from auditor.document_options import DocumentOptions
from auditor.errors import UsageError
from auditor.gate_options import ConfigurationOptions, GateOptions
from auditor.output_options import MergedShards, ScanFiles, WorkOptions
from auditor.verification.verify_options import SigningOptions


@takes_options("merge")
def merge(
    shards: MergedShards,
    gate: GateOptions,
    document: DocumentOptions,
    files: ScanFiles,
    work: WorkOptions,
    signing: SigningOptions,
    where: ConfigurationOptions,
) -> None:
    """Put the shards of a scan together, make what none of them could, and write the report.

    Exits as the scan would have.
    """
    if work.shard is not None:
        raise UsageError("--shard makes a share; merge puts shares together", "leave --shard out")
    targets, folder = targets_of(files.out, files.output)
    into = unfinished_folder(targets, folder)
    if into is None or not files.resume:
        raise UsageError("merge needs a folder for the parts", "leave --no-resume out, and name a folder with --out")
    with no_empty_folders([*targets, into / "part"]):
        audit(put_together(shards.folders, into), gate, document, files, work, signing, where)
