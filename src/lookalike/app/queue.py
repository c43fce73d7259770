"""A bounded queue that batches: what arrives while a batch is computed makes up the next one."""

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from math import ceil
from threading import Thread
from time import perf_counter
from typing import Generic, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


class QueueFullError(Exception):
    """The queue takes nothing more for now.

    retry_after: whole seconds until it has probably room again.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"too many requests are waiting; try again in {retry_after} s")
        self.retry_after = retry_after


class BatchQueue(Generic[Task, Result]):
    """One thread that works on tasks, several at once.

    Nothing waits for a batch to fill up: a single task is begun at once.

    >>> with BatchQueue(lambda tasks: [2 * task for task in tasks]) as doubled:
    ...     doubled.submit(21).result()
    42

    Args:
        work: tasks -> a result for each one; an exception in place of a result is raised to whoever
            waits for that task only.
        most_waiting: tasks that wait at most, beside the batch that is being computed.
        batch_size: tasks at once at most.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Task]], Sequence[Result | Exception]],
        most_waiting: int = 64,
        batch_size: int = 16,
    ) -> None:
        self.work = work
        self.batch_size = batch_size
        self.seconds_a_task = 0.05  # until measured
        self._tasks: queue.Queue[tuple[Task, Future[Result]] | None] = queue.Queue(most_waiting)
        self._thread = Thread(target=self._run, name="batches", daemon=True)
        self._thread.start()

    def __enter__(self) -> "BatchQueue[Task, Result]":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __len__(self) -> int:
        """How many tasks wait."""
        return self._tasks.qsize()

    def submit(self, task: Task) -> "Future[Result]":
        """The result to come.

        Raises:
            QueueFullError: too many tasks wait.
        """
        future: Future[Result] = Future()
        try:
            self._tasks.put_nowait((task, future))
        except queue.Full:
            raise QueueFullError(max(1, ceil(len(self) * self.seconds_a_task))) from None
        return future

    def close(self) -> None:
        """End after the tasks that wait."""
        self._tasks.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._tasks.get()) is not None:
            batch, last = self._with_others(first)
            wanted = [pair for pair in batch if pair[1].set_running_or_notify_cancel()]
            if wanted:
                self._answer([task for task, _ in wanted], [future for _, future in wanted])
            if last:
                break

    def _with_others(
        self, first: tuple[Task, "Future[Result]"]
    ) -> tuple[list[tuple[Task, "Future[Result]"]], bool]:
        """The batch, and whether the end of the queue was met."""
        batch = [first]
        while len(batch) < self.batch_size:
            try:
                following = self._tasks.get_nowait()
            except queue.Empty:
                return batch, False
            if following is None:
                return batch, True
            batch.append(following)
        return batch, False

    def _answer(self, tasks: list[Task], futures: "list[Future[Result]]") -> None:
        began = perf_counter()
        try:
            results = self.work(tasks)
        except Exception as error:  # whoever waits gets it; the thread goes on
            results = [error] * len(tasks)
        spent = (perf_counter() - began) / len(tasks)
        self.seconds_a_task += 0.2 * (spent - self.seconds_a_task)
        for future, result in zip(futures, results, strict=True):
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
