"""Training, whatever the task: the loop, optimisers, schedules, checkpoints, logs and run directories.

`Trainer` in `loop` trains what fulfils `Task` in `task`.
"""
