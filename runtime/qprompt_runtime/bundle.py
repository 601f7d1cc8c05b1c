"""Backbone bundles on disk: where they are found, how they are checked, how one is added.

A bundle is a folder with a `manifest.json` and the files that it lists. Sizes are checked whenever a bundle
is opened; hashes when one is written or added, and on request, because hashing hundreds of megabytes at each
start would cost a small device seconds.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from qprompt_runtime.admission import check_manifest
from qprompt_runtime.errors import BundleError, OutputError
from qprompt_runtime.files import is_file, is_folder, set_mode, user_home
from qprompt_runtime.foreign import but_is
from qprompt_runtime.manifest import FileRecord, Manifest
from qprompt_runtime.policy import Policy

MANIFEST, SIGNATURE = "manifest.json", "manifest.json.sig"
DEFAULT_BACKBONE = "small"
"""The shipped backbone that every command takes unless another is named."""
_NOT_SHIPPED = {
    "tiny": "; tiny no longer comes with the package, docs/tiny.md says where its bundle lies and how to add "
    "it"
}
_MANIFEST_LIMIT = 1_000_000
_SIGNATURE_LIMIT = 1_000
_SHIPPED = Path(__file__).parent / "backbones"
_BLOCK = 1 << 20


def user_folder() -> Path | None:
    """The folder of added backbones: `QPE_BACKBONES`, or a folder under the user's data home.

    None for a user without a home folder.
    """
    named, data_home, home = os.environ.get("QPE_BACKBONES"), os.environ.get("XDG_DATA_HOME"), user_home()
    if named:
        return Path(named)
    if data_home:
        return Path(data_home) / "qprompt-edge" / "backbones"
    return None if home is None else home / ".local" / "share" / "qprompt-edge" / "backbones"


def installed_bundles() -> Iterator[Path]:
    """Folders of all installed bundles, the shipped ones first; a home that is not ours holds none.

    Raises:
        BundleError: The folder that `QPE_BACKBONES` names cannot be read.
    """
    yield from _bundles_in(_SHIPPED)
    folder = user_folder()
    if folder is None:
        return
    try:
        yield from _bundles_in(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        if os.environ.get("QPE_BACKBONES"):
            raise BundleError(
                f"the folder of added backbones cannot be read: {folder}: {error.strerror or error}; "
                "QPE_BACKBONES names it"
            ) from error


def _bundles_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if is_file(path / MANIFEST))


def find_bundle(name: str | Path) -> Path:
    """The folder of a backbone given by its folder or by its installed name.

    Raises:
        BundleError: There is none; the message lists what is installed.
    """
    for path in installed_bundles():
        if path.name == str(name):
            return path
    path = Path(name)
    if is_file(path / MANIFEST):
        return path
    names = ", ".join(folder.name for folder in installed_bundles()) or "none"
    if is_folder(path):
        raise BundleError(f"{path} is no backbone bundle: it has no {MANIFEST}")
    where = _NOT_SHIPPED.get(str(name), "")
    raise BundleError(
        f"no backbone {str(name)!r}; installed: {names}. Give a bundle's folder, or add one{where}"
    )


def read_manifest(folder: Path) -> Manifest:
    """Read a bundle's manifest and check that every file is there at its size.

    Raises:
        BundleError: The manifest is damaged, or a file is missing or of another size.
    """
    path = folder / MANIFEST
    try:
        with path.open("rb") as file:
            text = file.read(_MANIFEST_LIMIT + 1).decode("utf-8")
    except FileNotFoundError as error:
        raise BundleError(f"{folder} is no backbone bundle: it has no {MANIFEST}") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BundleError(f"cannot read {path}: {reason}") from error
    if len(text) > _MANIFEST_LIMIT:
        raise BundleError(
            f"{path} is larger than {_MANIFEST_LIMIT} bytes, too large for a manifest; export the bundle "
            "again"
        )
    try:
        manifest = Manifest.from_json(text)
    except BundleError as error:
        raise BundleError(f"{folder}: {error}{but_is(path)}") from error
    for name, record in manifest.files.items():
        if not _is_plain(name):
            raise BundleError(f"{folder}: the manifest lists a file outside of the bundle: {name!r}")
        _check_size(folder / name, record)
    used = {graph.file for graph in manifest.graphs} | {"tokenizer.json"}
    if not used <= set(manifest.files):
        raise BundleError(
            f"{folder}: the manifest does not list {', '.join(sorted(used - set(manifest.files)))}, which "
            "the bundle needs; export the bundle again"
        )
    return manifest


def _is_plain(name: str) -> bool:
    """Whether this is the name of something in a folder: no path, no `..`, nothing hidden."""
    return Path(name).name == name and name[:1] not in ("", ".") and "\0" not in name


def _check_size(path: Path, record: FileRecord) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise BundleError(f"the bundle's file {path} is missing; add or export the backbone again") from error
    if size != record.bytes:
        raise BundleError(
            f"the bundle's file {path} has {size} bytes, its manifest says {record.bytes}; "
            f"add or export the backbone again{but_is(path)}"
        )


def verify_hashes(folder: Path) -> Manifest:
    """Check every byte of a bundle against its manifest.

    Raises:
        BundleError: A file is missing or was altered.
    """
    manifest = read_manifest(folder)
    for name, record in manifest.files.items():
        try:
            found = file_record(folder / name)
        except OSError as error:
            raise BundleError(f"cannot read the bundle's file {folder / name}: {error.strerror}") from error
        if found.sha256 != record.sha256:
            raise BundleError(
                f"the bundle's file {folder / name} was altered: its SHA-256 is not the one in the manifest; "
                "add or export the backbone again"
            )
    return manifest


def file_record(path: Path) -> FileRecord:
    """Size and SHA-256 of a file."""
    import hashlib  # here, as in small_hash

    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return FileRecord(path.stat().st_size, digest.hexdigest())


def read_beside(manifest: Path) -> bytes | None:
    """The detached signature beside a bundle's manifest; None if there is none.

    Raises:
        BundleError: It cannot be read.
    """
    path = manifest.with_name(SIGNATURE)
    try:
        with path.open("rb") as file:
            return file.read(_SIGNATURE_LIMIT)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror or error}") from error


def add_bundle(source: Path, name: str | None = None, policy: Policy | None = None) -> Path:
    """Copy a bundle, verified, to where backbones are found by name.

    Args:
        source: A bundle's folder, or one `.zip` file of it.
        name: Name to install it under; the folder's or file's by default.
        policy: Whose bundles may be added, beside what the device's policy says; the signature stands in
            `manifest.json.sig`.

    Returns:
        The folder it stands in now.

    Raises:
        BundleError: It is no bundle, was altered, or a backbone of that name is there already.
        OutputError: The user's backbone folder cannot be written.
        TrustError: The policy does not let it be added.
    """
    folder = user_folder()
    if folder is None:
        raise OutputError("there is no home folder to add a backbone to; set QPE_BACKBONES to another folder")
    if name and not _is_plain(name):
        raise BundleError(
            f"{name!r} cannot be a backbone's name; take one without slashes and without a leading dot"
        )
    try:
        if not source.is_symlink():  # a link keeps its name
            source = source.resolve()
        target = folder / (name or (source.name if source.is_dir() else source.stem.removesuffix(".qpb")))
        if any(path.name == target.name for path in installed_bundles()) or target.exists():
            raise BundleError(f"a backbone called {target.name!r} is installed already; choose another name")
        if not source.exists():
            raise BundleError(f"no such file or folder: {source}")
        folder.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".adding-", dir=folder))
        try:
            if source.is_dir():
                _copy_folder(source, staging)
            else:
                _unpack(source, staging)
            verify_hashes(staging)
            check_manifest((staging / MANIFEST).read_bytes(), read_beside(staging / MANIFEST), policy)
            set_mode(staging, 0o755)
            staging.rename(target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"cannot add {source} to {folder}: {error.strerror or error}") from error
    return target


def _copy_folder(source: Path, staging: Path) -> None:
    for name in [MANIFEST, *read_manifest(source).files]:
        shutil.copyfile(source / name, staging / name)
    signature = read_beside(source / MANIFEST)
    if signature is not None:
        (staging / SIGNATURE).write_bytes(signature)


def _unpack(source: Path, staging: Path) -> None:
    """Unpack a bundle's files, wherever in the archive its folder is; nothing else leaves the archive."""
    import zipfile  # seldom needed, and slow to import

    try:
        with zipfile.ZipFile(source) as archive:
            members = {info.filename: info for info in archive.infolist()}
            roots = [name.removesuffix(MANIFEST) for name in members if Path(name).name == MANIFEST]
            if len(roots) != 1:
                raise BundleError(
                    f"{source} holds {len(roots)} bundles, expected one: it needs one {MANIFEST}"
                )
            if members[roots[0] + MANIFEST].file_size > _MANIFEST_LIMIT:
                raise BundleError(
                    f"the manifest in {source} is larger than {_MANIFEST_LIMIT} bytes, too large for a "
                    "manifest"
                )
            text = archive.read(roots[0] + MANIFEST).decode("utf-8")
            (staging / MANIFEST).write_text(text, encoding="utf-8")
            signature = members.get(roots[0] + SIGNATURE)
            if signature is not None and signature.file_size <= _SIGNATURE_LIMIT:
                (staging / SIGNATURE).write_bytes(archive.read(signature))
            for name, record in Manifest.from_json(text).files.items():
                info = members.get(roots[0] + name)
                if not _is_plain(name) or info is None or info.file_size != record.bytes:
                    raise BundleError(
                        f"{source}: {name!r} is missing, or its size is not the one in the manifest; copy "
                        "or export the bundle again"
                    )
                with archive.open(info) as packed, (staging / name).open("wb") as file:
                    shutil.copyfileobj(packed, file, _BLOCK)
    except Exception as error:  # zipfile and its decompressors raise a dozen types for a damaged archive
        unusable = isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)
        if isinstance(error, BundleError) or unusable:
            raise  # EINVAL is not unusable: a damaged archive points before its own start
        reason = str(error) or type(error).__name__
        raise BundleError(
            f"{source} is neither a bundle's folder nor a readable zip file: {reason}{but_is(source)}"
        ) from error
