"""Signals to real runs, at moments that are drawn in every phase of a run."""

from __future__ import annotations

import signal
import time

from suite import Suite

from runs import EPOCHS, Layout, NotSurvived, Process, Run

# Where in a run a signal comes, at a moment of it that is drawn.
START_UP, TRAINING, WRITING, VALIDATION, FINAL = "start-up", "training", "writing", "validation", "final"
PHASES = (START_UP, TRAINING, WRITING, VALIDATION, FINAL)

# Seconds within which a worker that has lost another must have ended.
ALONE_SECONDS = 60.0


def plan(suite: Suite, layout: Layout, count: int, phases: tuple[str, ...]) -> list[tuple[str, int]]:
    """(phase, the step to wait for) for each of some signals to one run, in the order they can come in."""
    reference = suite.reference(layout)
    moments = []
    for index in range(count):
        phase = phases[index % len(phases)]
        step = int(suite.generator.integers(1, reference.steps - 1))
        if phase == VALIDATION:
            step = reference.steps_per_epoch * int(suite.generator.integers(1, EPOCHS + 1)) - 1
        if phase == FINAL:
            step = reference.steps
        moments.append((phase, step))
    return sorted(moments, key=lambda moment: moment[1])


def reach(suite: Suite, run: Run, phase: str, step: int, misses: int) -> bool:
    """Waits for a moment in a phase of a run that has just been started; False if the run ends before.

    The more moments have been missed that way, the earlier the next one comes.
    """
    reference = suite.reference(run.layout)
    delay = {
        START_UP: suite.uniform(reference.start_up, low=0.5),  # Earlier, there is no handler yet.
        TRAINING: suite.uniform(0.05),
        WRITING: 0.0,
        VALIDATION: suite.uniform(0.5),
        FINAL: suite.uniform(0.9 * reference.final),
    }[phase]
    reached = True
    if phase == FINAL:
        reached = run.wait_for(lambda: run.has_trained(reference.steps))
    elif phase != START_UP:
        first = min(max(step, run.resumable + 1), reference.steps)
        reached = run.wait_for(lambda: run.step >= first)
    if phase == WRITING:
        reached = reached and run.wait_for(run.is_writing)
    time.sleep(delay / 2**misses)
    return reached and run.chief.is_alive


def hit(suite: Suite, run: Run) -> str:
    """Where a signal found a run, by what is on disk."""
    reference = suite.reference(run.layout)
    if run.is_writing():
        return "while a checkpoint was written"
    if run.has_trained(reference.steps):
        return "in the final evaluation"
    if run.step == run.resumable:
        return "before the first checkpoint of a start"
    if run.step % reference.steps_per_epoch == reference.steps_per_epoch - 1:
        return "in an epoch's validation"
    return "between two checkpoints"


def send(suite: Suite, run: Run, phase: str, step: int, number: int) -> Process:
    """Starts a run and sends one of its workers a signal in a phase; that worker, ended.

    Where the run is done before the signal comes, it is started once more: from the beginning, if nothing of
    that phase is left in it.
    """
    for misses in range(5):
        run.start()
        victim = run.chief if phase == FINAL else suite.choose(run.processes)
        if reach(suite, run, phase, step, misses):
            victim.signal(number)
        status = victim.status()
        # Python lets a signal that comes after all work is done end the process as it would any.
        is_done = run.has_results() or (victim is not run.chief and run.has_trained())
        if status != 0 and (number == signal.SIGKILL or status != -number or not is_done):
            return victim
        for process in run.processes:
            process.status()
        if phase in (TRAINING, WRITING, VALIDATION) and run.has_trained(suite.reference(run.layout).steps):
            run.forget()
    raise NotSurvived(f"no moment found for a signal in {phase}")


def deal(suite: Suite, run: Run, phase: str, step: int, number: int) -> None:
    """Starts a run, ends one of its workers by a signal in a phase, and sees what becomes of all of them."""
    victim, is_kill = send(suite, run, phase, step, number), number == signal.SIGKILL
    where = hit(suite, run) if is_kill else f"in {phase}"
    suite.hits[where] += is_kill
    suite.say(f"{run.layout.name}: {signal.Signals(number).name} {where}, step {run.step}")
    status, accepted = victim.status(), [-number if is_kill else 128 + number]
    if phase == START_UP and len(run.processes) > 1:  # Where TensorFlow holds a worker a signal just ends it.
        accepted.append(-number)
    if status not in accepted:
        raise NotSurvived(f"status {status}, not {accepted}; it said {victim.said()[-1:]}")
    if status > 0:
        victim.the_line_said()
    for other in run.processes:
        if other is not victim:
            check_left_alone(suite, run, other, phase)


def check_left_alone(suite: Suite, run: Run, worker: Process, phase: str) -> None:
    """A worker that has lost another says so and ends, unless it has nothing left to do.

    If they had not met yet, it waits for the other to be started again, and ends when it is asked to.
    """
    asked = phase == START_UP and not worker.ends_within(ALONE_SECONDS / 2)
    if asked:
        worker.signal(signal.SIGTERM)
    status = worker.status(ALONE_SECONDS)
    if status > 0:
        worker.the_line_said()
    elif asked and status == -signal.SIGTERM:
        return
    elif status < 0 or not run.has_trained(suite.reference(run.layout).steps):
        raise NotSurvived(f"status {status} of a worker that lost another")


def signals(suite: Suite, layout: Layout, number: int, count: int, phases: tuple[str, ...] = PHASES) -> None:
    """One run that gets many signals, and is let finish after the last of them."""
    moments, run = plan(suite, layout, count, phases), suite.new_run(layout)
    row, survived = suite.row(signal.Signals(number).name, layout), 0
    for phase, step in moments:
        survived += suite.survives(row, run, deal, suite, run, phase, step, number)
        run.ended()
    row.tried += count
    row.survived += survived if suite.survives(row, run, suite.finish, row, run) else 0
