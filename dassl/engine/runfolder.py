"""A run folder: which run it belongs to, and whether it may be resumed, evaluated or reused."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from dassl.config.comparing import config_conflicts, config_digest, differences, number_values
from dassl.engine.checkpoint import EPOCH, epoch_file, load_checkpoint, saved_epochs, says_how_to_resume
from dassl.registries import TRAINER_REGISTRY
from dassl.results.record import CONFIG_FILE, RESULTS_FILE, RunResult, read_results
from dassl.results.stored import stored_config
from dassl.utils.digests import ChangedError
from dassl.utils.errors import PassingError, UserError, another_folder
from dassl.utils.files import file_state, write_error
from dassl.utils.locks import Owner, locked

_LOCK = ".lock"  # exists while the run is active
_LAST_KEY = "VERSION"
_OTHER_EPOCHS = (
    "; it cannot be resumed with another number of epochs, for which its learning rates were not planned (a new run "
    "may start from what it learned, with MODEL.INIT_WEIGHTS {folder})"
)
_Content = dict[str, Any]
_log = logging.getLogger(__name__)


class RunFolder:
    """The content of a run's folder: config, result, checkpoints, lock.

    A checkpoint is read once, and again only after its file was replaced.

    Attributes:
        path: the folder, which need not exist.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._read: dict[Path, tuple[object, _Content | UserError]] = {}
        self._said: list[UserError] = []

    @classmethod
    def to_resume(cls, cfg: CfgNode) -> "RunFolder":
        """The folder a training resumes from: its own if that was interrupted, else RESUME if it is set."""
        own = cls(cfg.OUTPUT_DIR)
        return cls(cfg.RESUME) if cfg.RESUME and not own.holds_checkpoints() else own

    # ---- result -------------------------------------------------------------------------------

    def has_result(self) -> bool:
        """Whether the run is finished."""
        return (self.path / RESULTS_FILE).is_file()

    def result(self) -> RunResult:
        """The result of the finished run (UserError: it is missing or unreadable)."""
        return read_results(self.path)

    def finished(self, cfg: CfgNode) -> RunResult:
        """The result of a finished training under ``cfg``.

        Raises:
            UserError: the folder holds an evaluation, a run with another config, or a result that cannot be read.
        """
        try:
            result = self.result()
        except ChangedError:
            raise
        except UserError as error:
            raise UserError(f"{error}; delete the file, and the same command makes it again") from error
        if result.mode == "eval" and TRAINER_REGISTRY.get(cfg.TRAINER.NAME).trainable:
            raise UserError(f"{self.path} holds an evaluation; use {another_folder()} for the training")
        if self.config() is None and result.config_digest not in ("", config_digest(cfg)):
            raise UserError(
                f"{self.path} holds a run with another config, and its {CONFIG_FILE} is gone or damaged; use "
                f"{another_folder()}, or delete the folder"
            )
        self.refuse_other_config(cfg)
        return result

    # ---- config -------------------------------------------------------------------------------

    def config(self) -> dict[str, Any] | None:
        """The config of the run as written; None if it cannot be read.

        If ``config.yaml`` is gone or damaged, a checkpoint provides the keys that can change a figure.
        """
        stored = stored_config(self.path)
        # Keys are sorted by name, so a truncated file lacks the last of them.
        return stored if stored is not None and _LAST_KEY in stored else self._config_of_a_checkpoint()

    def _config_of_a_checkpoint(self) -> dict[str, Any] | None:
        for path in sorted(self.path.glob("*/model*.pth.tar*")):
            with contextlib.suppress(UserError):
                config = self.checkpoint(path).get("config")
                if isinstance(config, dict):
                    return config
        return None

    def check_config(self, stored: dict[str, Any]) -> None:
        """Check that ``stored``, read from ``config.yaml``, is the config of the run's result.

        Raises:
            UserError: a checkpoint contradicts it; the message names the keys. Without checkpoints it only warns,
                because another version of this program may compare other keys.
        """
        if self.result().config_digest in ("", config_digest(stored)):
            return
        path, learned = self.path / CONFIG_FILE, self._config_of_a_checkpoint()
        if learned is None:
            _log.warning(
                "%s is not the config of the run's %s: another version wrote it, or it was changed; compare it "
                "with a copy",
                path,
                RESULTS_FILE,
            )
            return
        values = number_values(stored)
        if wrong := differences(learned, values, sorted(learned.keys() & values.keys())):
            raise UserError(
                f"{path} was changed or damaged after it was written: {'; '.join(wrong[:5])} in the "
                "checkpoints; restore the values of the checkpoints"
            )

    def conflicts(self, cfg: CfgNode) -> list[str]:
        """The keys that can change a figure and differ between the run's config and ``cfg``, with both values."""
        stored = self.config()
        return [] if stored is None else config_conflicts(stored, cfg)

    def refuse_other_config(self, cfg: CfgNode, stored: dict[str, Any] | None = None) -> None:
        """Refuse to resume under another config, which would give figures that belong to neither.

        Args:
            stored: the run's config, if it is known from a checkpoint.

        Raises:
            UserError: names the keys that differ.
        """
        wrong = self.conflicts(cfg) if stored is None else config_conflicts(stored, cfg)
        if wrong:
            shown = "; ".join(wrong[:5]) + (f"; and {len(wrong) - 5} more" if len(wrong) > 5 else "")
            epochs = any(text.startswith(("OPTIM.MAX_EPOCH ", "OPTIM.MIN_STEPS ")) for text in wrong)
            raise UserError(
                f"{self.path} holds a run with another config ({shown}); use {another_folder()}, or delete the folder"
                + _OTHER_EPOCHS.format(folder=self.path) * epochs
            )

    # ---- checkpoints --------------------------------------------------------------------------

    def holds_checkpoints(self) -> bool:
        """Whether a training of any method has finished an epoch here."""
        return any(EPOCH.match(path.name) for path in self.path.glob("*/model.pth.tar-*"))

    def holds_training(self) -> bool:
        """Whether this is the folder of a training, finished or not; an evaluation must not touch its files."""
        return self.holds_checkpoints() or (self.has_result() and self.result().mode == "train")

    def whole_epochs(self, modules: Sequence[str]) -> list[int]:
        """Epochs for which every module has a checkpoint, the newest one first."""
        epochs = [saved_epochs(self.path / name) for name in modules]
        return sorted(set.intersection(*epochs), reverse=True) if epochs else []

    def checkpoint(self, path: Path) -> _Content:
        """The content of a checkpoint of this run (UserError: it cannot be read)."""
        now = file_state(path)
        if path not in self._read or self._read[path][0] != now:
            try:
                self._read[path] = now, load_checkpoint(path)
            except UserError as error:
                self._read[path] = now, error
        content = self._read[path][1]
        if isinstance(content, UserError):
            raise content
        return content

    def newest(self, modules: Sequence[str]) -> dict[str, _Content] | None:
        """Checkpoints by module of the newest epoch that is complete and readable; None if there is none.

        A damaged file causes a warning, and an earlier epoch is used.

        Raises:
            UserError: the checkpoints hold learned tensors but no state to resume from, like the original's.
        """
        foreign = False
        for epoch in self.whole_epochs(modules):
            try:
                contents = {name: self.checkpoint(self.path / name / epoch_file(epoch)) for name in modules}
            except UserError as error:
                if error not in self._said:
                    _log.warning("%s; looking for an earlier epoch", error)
                    self._said.append(error)
                continue
            if all(map(says_how_to_resume, contents.values())):
                return contents
            foreign = True
        if foreign:
            raise UserError(
                f"the checkpoints in {self.path} are of other code and do not say how to resume; start from their "
                f"weights with MODEL.INIT_WEIGHTS {self.path} and another --output-dir, or evaluate them with "
                f"--eval-only --model-dir {self.path}"
            )
        return None

    def forget(self) -> None:
        """Release the checkpoints in memory."""
        self._read.clear()

    # ---- lock ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the exclusive lock of the folder, so that no other run mixes its files in.

        Raises:
            UserError: another run is at work there, or the folder cannot be written.
        """

        def refuse(owner: Owner) -> None:
            what = f"another run is at work in {self.path}"
            raise PassingError(owner.refusal(what, f"wait for it, or use {another_folder()}"))

        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locked(self.path / _LOCK, busy=refuse))
            except OSError as error:
                raise write_error(self.path, error) from error
            yield
