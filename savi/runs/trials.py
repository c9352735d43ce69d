"""How many trials an Optuna study still lacks."""

from __future__ import annotations


def trials_left(wanted: int, storage: str, study: str) -> int:
    """``wanted`` less the trials that ended well in the study, at least 0.

    Optuna's sweeper would run ``wanted`` more trials whenever it is started. Failed trials do not
    count, so that a sweep that is started again makes up for them.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if study not in {summary.study_name for summary in optuna.get_all_study_summaries(storage)}:
        return wanted
    trials = optuna.load_study(study_name=study, storage=storage).trials
    done = sum(trial.state is optuna.trial.TrialState.COMPLETE for trial in trials)
    return max(0, wanted - done)
