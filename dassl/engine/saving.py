"""Save a trainer after an epoch; load it to resume or to evaluate."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dassl.config.comparing import number_values
from dassl.engine.checkpoint import (
    BEST,
    NAMES,
    check_names,
    epoch_file,
    load_checkpoint,
    load_learned,
    load_optimizer_state,
    optimizer_state,
    point_to,
    remove_epochs,
    save_checkpoint,
    saved_epochs,
)
from dassl.engine.checks import warn_of_choice
from dassl.engine.runfolder import RunFolder
from dassl.results.record import RESULTS_FILE
from dassl.utils.errors import UserError, another_folder
from dassl.utils.files import remove_unfinished
from dassl.utils.tools import device_name

if TYPE_CHECKING:
    from dassl.engine.trainer import TrainerX

_LEARNED_FROM = {
    "subset": "training images",
    "labels": "labels, classes or tasks of the training images",
    "contents": "pictures under the names of the training images",
}
_log = logging.getLogger(__name__)


def _folders(names: str) -> Sequence[str]:
    """Folders with commas between them; a comma in the name of an existing folder separates nothing."""
    return [names] if Path(names).exists() else [each.strip() for each in names.split(",") if each.strip()]


class Checkpoints:
    """Saves and loads the registered modules of a trainer, its optimiser, schedule, loss scale and best epoch."""

    def __init__(self, trainer: "TrainerX") -> None:
        self.trainer, self.cfg = trainer, trainer.cfg
        self.folder = Path(trainer.cfg.OUTPUT_DIR)
        self._checked: RunFolder | None = None

    # ---- after an epoch -----------------------------------------------------------------------

    def save(self, epoch: int, *, best: bool = False) -> None:
        """Save every registered module after ``epoch`` finished epochs."""
        trainer = self.trainer
        for name, module in trainer.modules.items():
            content = {
                "state_dict": {key: value.cpu() for key, value in module.state_dict().items()},
                "epoch": epoch,
                "optimizer": {} if trainer.optim is None else optimizer_state(trainer.optim, module),
                "scheduler": {} if trainer.sched is None else trainer.sched.state_dict(),
                "scaler": trainer.scaler.state_dict(),
                "seconds": trainer.train_seconds,
                **trainer.dm.train_digests,
                "config": number_values(self.cfg),
                "best": trainer.choice.state_dict(),
                "session": {
                    "device": device_name(trainer.device),
                    "text_chunk": trainer.smallest_chunk,
                    "warnings": list(trainer.remarks),
                },
            }
            if trainer.bound_names:
                content["names"] = trainer.bound_names
            save_checkpoint(self.folder / name, content, best=best, quiet=not best and not self._stays(epoch))

    def remove_old(self, newest: int) -> None:
        """Delete the checkpoints up to epoch ``newest`` that are not kept."""
        for name in self.trainer.modules:
            folder = self.folder / name
            remove_epochs(folder, [e for e in saved_epochs(folder) if e <= newest - 1 and not self._stays(e)])

    def _stays(self, epoch: int) -> bool:
        """Whether the checkpoint of ``epoch`` is kept when the next one is written."""
        freq = self.cfg.TRAIN.CHECKPOINT_FREQ
        return epoch == self.trainer.max_epoch or bool(freq and epoch % freq == 0)

    # ---- to evaluate --------------------------------------------------------------------------

    def load(self, directory: Path | str, *, epoch: int | None = None) -> None:
        """Load learned tensors for evaluation: of ``epoch``, else the best on val, else the last.

        Raises:
            UserError: there is no such checkpoint, or it does not fit the config.
        """
        states = self._states(RunFolder(directory), epoch)
        for name, module in self.trainer.modules.items():
            source, state = states[name]
            load_learned(module, state, source=source)

    def start_from(self, names: str) -> None:
        """Load learned tensors to train further: those of one run, or the mean over several, as MVLPT starts.

        Args:
            names: a run folder, or several with commas between them.

        Raises:
            UserError: a folder has no such checkpoint, or it does not fit the config or the other runs.
        """
        runs = [self._states(RunFolder(folder), None) for folder in _folders(names)]
        for name, module in self.trainer.modules.items():
            for source, state in (run[name] for run in runs):
                load_learned(module, state, source=source)  # checks names, shapes and values
            own = [run[name][1] for run in runs]
            if len(own) > 1:
                mean = {key: torch.stack([state[key].double() for state in own]).mean(0) for key in module.state_dict()}
                module.load_state_dict(mean)
        if len(runs) > 1:
            _log.info("Training starts from the mean over %d runs", len(runs))

    def _states(self, run: RunFolder, epoch: int | None) -> dict[str, tuple[Path, dict[str, torch.Tensor]]]:
        """The file and the learned tensors of each module."""
        trainer, chosen_elsewhere, states = self.trainer, False, {}
        for name in trainer.modules:
            path = self._find(run, name, epoch)
            chosen_elsewhere |= path.name == BEST and trainer.choice.epoch is None
            content = load_checkpoint(path)
            self._refuse_other_than_best(path, content, epoch)
            check_names(content, trainer.bound_names, source=path)
            states[name] = path, content["state_dict"]
            _log.info('Loaded %s from "%s" (epoch %d)', name, path, content["epoch"])
        if chosen_elsewhere:  # the training of this process warned before it began
            warn_of_choice(trainer)
        return states

    def _find(self, run: RunFolder, name: str, epoch: int | None) -> Path:
        folder = run.path / name
        if not any((run.path / each).is_dir() for each in self.trainer.modules):
            lack = f"holds no trained {name}" if run.path.is_dir() else "is no folder"
            raise UserError(f"{run.path} {lack}; give the run folder of a {self.cfg.TRAINER.NAME} run")
        if epoch is not None:
            return folder / epoch_file(epoch)
        best = folder / BEST
        whole = run.whole_epochs(list(self.trainer.modules))
        if best.is_file() and (not whole or self.cfg.TEST.FINAL_MODEL != "last_step"):
            return best
        if not whole:
            raise self._incomplete(run)
        return folder / epoch_file(whole[0])

    def _incomplete(self, run: RunFolder) -> UserError:
        """The error that names the modules without a checkpoint that others have, or without any."""
        epochs = {name: saved_epochs(run.path / name) for name in self.trainer.modules}
        newest = max((epoch for each in epochs.values() for epoch in each), default=None)
        what = "a checkpoint (model.pth.tar-EPOCH)" if newest is None else epoch_file(newest)
        left = [name for name, each in epochs.items() if newest not in each]
        lacks = " and ".join(str(run.path / name) for name in left if not (run.path / name / BEST).is_file())
        return UserError(
            f"{lacks} lacks {what}; copy the folder of the run again, whole, or delete {RESULTS_FILE} in it and start "
            "the run's command again"
        )

    def _refuse_other_than_best(self, path: Path, content: Mapping[str, Any], epoch: int | None) -> None:
        """Another epoch in place of the best one, whose file is lost, would be another model than the run's."""
        told = content.get("best")
        best = told.get("epoch") if isinstance(told, dict) else None
        if epoch is not None or path.name == BEST or self.cfg.TEST.FINAL_MODEL == "last_step":
            return
        if best in (None, content["epoch"]):
            return
        raise UserError(
            f"{path.parent} lacks {BEST}, the best epoch on val ({best}); copy the folder of the run again, whole, or "
            f"evaluate epoch {content['epoch']} with TEST.FINAL_MODEL last_step"
        )

    # ---- to resume ----------------------------------------------------------------------------

    def check(self, run: RunFolder) -> None:
        """Refuse to resume a RESUME folder without a checkpoint, another config, and other images (UserError)."""
        if run.holds_checkpoints():
            run.refuse_other_config(self.cfg)
        contents = run.newest(list(self.trainer.modules))
        self._refuse_nothing(run, contents)
        for content in (contents or {}).values():
            if isinstance(content.get("config"), dict):  # a damaged config.yaml may be partly readable
                run.refuse_other_config(self.cfg, content["config"])
            self._refuse_other_data(run, content)
        self._checked = run

    def resume(self) -> int:
        """Resume from the newest whole checkpoint; returns the number of finished epochs.

        Raises:
            UserError: the checkpoint does not fit the config, or RESUME names a folder without one.
        """
        trainer, run = self.trainer, self._to_resume()
        for name in trainer.modules:
            remove_unfinished(self.folder / name, NAMES)
        contents = run.newest(list(trainer.modules))
        self._refuse_nothing(run, contents)
        if contents is None:
            return 0
        for name, module in trainer.modules.items():
            content = contents[name]
            load_learned(module, content["state_dict"], source=run.path / name / epoch_file(content["epoch"]))
            if trainer.optim is not None and trainer.sched is not None:
                load_optimizer_state(trainer.optim, module, content["optimizer"])
                trainer.sched.load_state_dict(content["scheduler"])
            self._take_over(run, name, content)
            trainer.choice.load_state_dict(content["best"])
        trainer.seconds_before = content.get("seconds", 0.0)
        self._remember(content.get("session"), content["epoch"])
        if content["scaler"]:  # empty if the run began without scaling, e.g. amp on a CPU
            trainer.scaler.load_state_dict(content["scaler"])
        if run.path == self.folder:  # a killed run may have left older ones
            self.remove_old(content["epoch"])
        run.forget()
        _log.info('Resumed from "%s" after epoch %d', run.path, content["epoch"])
        return content["epoch"]

    def _remember(self, earlier: Any, epoch: int) -> None:
        """Repeat the warnings of earlier sessions, which concern the run; older versions did not save them."""
        trainer, here = self.trainer, device_name(self.trainer.device)
        if not isinstance(earlier, dict):
            return
        trainer.chunk_before = earlier.get("text_chunk", 0)
        trainer.remarks.update(dict.fromkeys(earlier.get("warnings", ())))
        if earlier.get("device", here) != here:
            _log.warning(
                "the run was computed on %s up to epoch %d and resumes with %s, where sums are rounded differently: "
                "its figures may differ from those of an uninterrupted run; start it again if that matters",
                earlier["device"],
                epoch,
                here,
            )

    def _to_resume(self) -> RunFolder:
        """The checked folder, unless another one holds the newest checkpoint by now."""
        run = RunFolder.to_resume(self.cfg)
        return self._checked if self._checked is not None and self._checked.path == run.path else run

    def _take_over(self, run: RunFolder, name: str, content: Mapping[str, Any]) -> None:
        """Give this run's folder the files of an uninterrupted run."""
        if run.path == self.folder:  # a killed run may not have written this file
            point_to(self.folder / name, content["epoch"])
        elif content["best"]["epoch"] is not None:
            save_checkpoint(self.folder / name, load_checkpoint(run.path / name / BEST), best=True)

    def _refuse_nothing(self, run: RunFolder, contents: Mapping[str, Any] | None) -> None:
        if contents is None and self.cfg.RESUME and run.path != self.folder:
            raise UserError(f"nothing to resume in {run.path}: no epoch has a whole checkpoint of every learned module")

    def _refuse_other_data(self, run: RunFolder, content: Mapping[str, Any]) -> None:
        for kind, what in _LEARNED_FROM.items():
            mine, there = self.trainer.dm.train_digests.get(kind), content.get(kind)
            if mine and there and mine != there:
                raise UserError(
                    f"the run in {run.path} was begun on other {what} ({kind} {there[:12]} there, {mine[:12]} here); "
                    f"put them back, use {another_folder()}, or delete the folder"
                )
