"""A signature says who sealed a file: another key, another content or no signature are told."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from auditor.cli.main import app
from auditor.errors import UsageError
from auditor.results.protection.seal import sealed
from auditor.results.reading import read_results
from auditor.verification.conclusion import verify

ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")

from cryptography.hazmat.primitives import serialization  # noqa: E402

from auditor.verification.signing import private_key, public_key, signed  # noqa: E402


def keys(folder, name):
    """Write a pair of keys as openssl does; return both paths."""
    private = ed25519.Ed25519PrivateKey.generate()
    pem = serialization.Encoding.PEM
    secret, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    form = serialization.PrivateFormat.PKCS8
    secret.write_bytes(private.private_bytes(pem, form, serialization.NoEncryption()))
    public.write_bytes(private.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return secret, public


@pytest.fixture
def pair(tmp_path):
    return keys(tmp_path, "ours")


def test_the_right_key_verifies_and_another_does_not(audited, folder, pair, tmp_path):
    made = signed(audited, pair[0])
    path = folder(made)
    assert verify(path, public=public_key(pair[1])).word == "VERIFIED"
    assert verify(path).word == "VERIFIED"
    theirs = public_key(keys(tmp_path, "theirs")[1])
    found = verify(path, public=theirs)
    assert found.word == "EDITED"
    assert any("signed with another key" in check.told for check in found.checks)
    assert read_results(path) == made


def test_who_asks_for_a_signature_is_told_that_there_is_none(audited, folder, pair):
    assert verify(folder(audited), public=public_key(pair[1])).word == "EDITED"


def test_content_that_is_sealed_again_keeps_no_signature_and_a_copied_one_does_not_hold(audited, folder, pair):
    made = signed(audited, pair[0])
    forged = {**made, "skipped": []}
    assert sealed(forged)["integrity"]["signature"] is None
    again = sealed(forged)
    again["integrity"] = {**again["integrity"], "signature": made["integrity"]["signature"]}
    assert verify(folder(again)).word == "EDITED"
    assert verify(folder(again), public=public_key(pair[1])).word == "EDITED"


@pytest.mark.parametrize("field", ["value", "key", "algorithm"])
def test_an_edited_signature_does_not_hold(audited, folder, pair, field):
    made = signed(audited, pair[0])
    block = dict(made["integrity"]["signature"])
    block[field] = ("0" if block[field][0] != "0" else "1") + block[field][1:]
    made = {**made, "integrity": {**made["integrity"], "signature": block}}
    assert verify(folder(made)).word == "EDITED"


def test_openssl_says_the_same_of_the_signature(audited, pair, tmp_path):
    """An independent witness, by the line that docs/gate.md gives."""
    made = signed(audited, pair[0])
    (tmp_path / "message").write_text(f"{made['schema']} sha256:{made['integrity']['digest']}", encoding="ascii")
    (tmp_path / "signature").write_bytes(bytes.fromhex(made["integrity"]["signature"]["value"]))
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", pair[1], "-rawin"]
    command += ["-in", tmp_path / "message", "-sigfile", tmp_path / "signature"]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("no openssl here")
    assert done.returncode == 0, done


def test_keys_of_openssh_are_read(tmp_path, pair):
    private = private_key(pair[0])
    form = serialization.PrivateFormat.OpenSSH
    secret = private.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    public = private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    (tmp_path / "id").write_bytes(secret)
    (tmp_path / "id.pub").write_bytes(public)
    assert private_key(tmp_path / "id").public_key() == private.public_key()
    assert public_key(tmp_path / "id.pub") == public_key(pair[1])


@pytest.mark.parametrize("read", [private_key, public_key])
def test_what_is_no_key_is_one_line(read, tmp_path, pair):
    (tmp_path / "none").write_bytes(b"not a key")
    wrong = pair[1] if read is private_key else pair[0]
    for path in (tmp_path / "none", wrong, tmp_path / "missing"):
        with pytest.raises(UsageError) as refused:
            read(path)
        assert "openssl" in str(refused.value)
        assert "\n" not in str(refused.value)


def test_a_gate_signs_what_it_decided_and_the_report_tells_by_whom(audited, folder, pair, tmp_path):
    path, out, page = folder(audited), tmp_path / "judged.json", tmp_path / "judged.html"
    line = ["gate", str(path), "--fail-on", "never", "--sign-key", str(pair[0]), "-o", str(out), "-o", str(page)]
    ran = CliRunner().invoke(app, line, standalone_mode=False)
    assert ran.return_value == 0, ran.exception
    assert verify(out, public=public_key(pair[1])).word == "VERIFIED"
    assert public_key(pair[1]) in page.read_text(encoding="utf-8")
    assert verify(page, beside=out, public=public_key(pair[1])).word == "VERIFIED"
    code = CliRunner().invoke(app, ["verify", str(out), "--public-key", str(pair[1])], standalone_mode=False)
    assert "signed" in code.output
    assert "by the key that was given" in code.output


def test_without_the_package_one_line_says_what_to_install(monkeypatch, pair):
    for name in [n for n in sys.modules if n.partition(".")[0] == "cryptography"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(UsageError, match=r"pip install 'fl-audit\[sign\]'"):
        private_key(Path(pair[0]))
