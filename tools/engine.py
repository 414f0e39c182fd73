"""Independent jobs on all the processors there are, of this machine or of several.

    run_all(jobs, done)    jobs: (key, function, kwargs); done(key, row) as each one ends

A job is a function that can be imported by name and arguments that can be pickled; its result is
a row. By default spawned processes of this machine do the work, one thread each. `ENGINE=ray` in
the environment gives the same jobs to a Ray cluster (`requirements-ray.txt`), `ENGINE=here`
does them one after another in the calling process, for a debugger. `done` is called in the calling
process alone, so one writer is enough, and a run that was stopped goes on if the caller leaves out
the jobs whose rows it has. A job whose worker was lost is done again.

`jobs` may grow: a generator yields None while it has nothing at present, and is asked again after
each row. All is done when nothing runs and it has nothing. tools/ledger.py makes jobs in this way.

On several machines: `ray start --head` on one, `ray start --address HOST:6379` on the others, each
with the repository at the same path and the same environment; then `ENGINE=ray RAY_ADDRESS=auto`
before the command, on the first. This module imports no torch.
"""

import collections
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import sys
import traceback

ATTEMPTS = 3  # so often a job is begun whose worker is lost each time
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
ENGINES = ("local", "ray", "here")


class JobsFailed(RuntimeError):
    """Some jobs raised, or lost their worker every time; all others were done and handed over."""


@contextlib.contextmanager
def told():
    """For a command: jobs that failed are its last words, without this process's own traceback."""
    try:
        yield
    except JobsFailed as failed:
        sys.exit(str(failed))


def run_all(jobs, done, workers=None, engine=None):
    """Do every job, and call done(key, row) for each in the order in which they end.

    workers: processes at a time, all processors by default; Ray counts those of its cluster.
    engine: one of ENGINES, by default what ENGINE says, else local. ValueError for another one and
    for a key that comes twice. JobsFailed at the end, with key and traceback of what did not work.
    If `done` raises, the workers are ended and its exception goes on.
    """
    engine = engine or os.environ.get("ENGINE") or "local"
    if engine not in ENGINES:
        raise ValueError(f"There is no engine {engine!r}; ENGINE is one of: {', '.join(ENGINES)}.")
    if workers is not None and workers < 1:
        raise ValueError(f"{workers} workers do nothing; at least one is needed.")
    failed = {}
    run = {"local": _local, "ray": _ray, "here": _here}[engine]
    run(_once_each(jobs), done, failed, workers or os.cpu_count() or 1)
    if failed:
        told = "\n".join(f"{key!r}: {why}" for key, why in failed.items())
        raise JobsFailed(f"{len(failed)} job(s) gave no row:\n{told}")


def _once_each(jobs):
    seen = set()
    for job in jobs:
        if job is not None:
            if job[0] in seen:
                raise ValueError(f"Two jobs have the key {job[0]!r}.")
            seen.add(job[0])
        yield job


def _next(queue, jobs):
    """(a job, how often it was begun), from those to be done again or from the rest; or None."""
    if queue:
        return queue.popleft()
    job = next(jobs, None)
    return None if job is None else (job, 1)


def _lost(job, attempts, how, queue, failed):
    """Put a job whose worker was lost back in front, or give it up."""
    if attempts < ATTEMPTS:
        queue.appendleft((job, attempts + 1))
    else:
        failed[job[0]] = f"its worker was lost {attempts} times ({how})"


def _here(jobs, done, failed, workers):
    """In this process, which a debugger can stop and a test can patch."""
    for key, function, kwargs in iter(lambda: next(jobs, None), None):
        try:
            row = function(**kwargs)
        except Exception:
            failed[key] = traceback.format_exc()
        else:
            done(key, row)


# --- this machine ---------------------------------------------------------------------------------


def _work(pipe):
    """A worker: take (function, kwargs), send (True, row) or (False, traceback), until None."""
    with contextlib.suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        while (job := pipe.recv()) is not None:
            function, kwargs = job
            try:
                answer = True, function(**kwargs)
            except Exception:
                answer = False, traceback.format_exc()
            pipe.send(answer)


@contextlib.contextmanager
def _one_thread():
    """Processes begun in here see one thread; the libraries read that when they are imported."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


class _Worker:
    """A spawned process and this side's end of the pipe to it."""

    def __init__(self):
        spawn = multiprocessing.get_context("spawn")
        self.pipe, theirs = spawn.Pipe()
        self.process = spawn.Process(target=_work, args=(theirs,), daemon=True)
        with _one_thread():
            self.process.start()
        theirs.close()
        self.job = None

    def give(self, job, attempts):
        self.pipe.send((job[1], job[2]))
        self.job = job, attempts

    def end(self, kill=False):
        """End the process; returns in words how it ended."""
        with contextlib.suppress(OSError):
            self.process.kill() if kill else self.pipe.send(None)
        self.process.join()
        self.pipe.close()
        return f"exit code {self.process.exitcode}"


def _local(jobs, done, failed, workers):
    queue, team, orderly = collections.deque(), [], False

    try:
        while True:
            idle = [w for w in team if w.job is None]
            while (idle or len(team) < workers) and (one := _next(queue, jobs)):
                if not idle:
                    team.append(_Worker())
                    idle.append(team[-1])
                worker = idle.pop()
                try:
                    worker.give(*one)
                except OSError:  # it was lost while it had nothing to do
                    team.remove(worker)
                    _lost(*one, worker.end(kill=True), queue, failed)
            busy = {w.pipe: w for w in team if w.job is not None}
            if not busy:
                break
            for pipe in multiprocessing.connection.wait(list(busy)):
                worker = busy[pipe]
                (job, attempts), worker.job = worker.job, None
                try:
                    right, answer = pipe.recv()
                except (EOFError, OSError):
                    team.remove(worker)
                    _lost(job, attempts, worker.end(kill=True), queue, failed)
                    continue
                if right:
                    done(job[0], answer)
                else:
                    failed[job[0]] = answer
        orderly = True
    finally:
        for worker in team:
            worker.end(kill=not orderly)


# --- a Ray cluster --------------------------------------------------------------------------------


def surroundings():
    """Ray's runtime_env: one thread, and modules found where this process finds them."""
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)
    return {"env_vars": {**ONE_THREAD, "PYTHONPATH": paths}}


def _told(function, kwargs):
    """Runs in Ray's worker; the traceback travels as text, so that its class need not be known."""
    try:
        return True, function(**kwargs)
    except Exception:
        return False, traceback.format_exc()


def _ray(jobs, done, failed, workers):
    try:
        import ray
    except ImportError:
        raise RuntimeError(
            "ENGINE=ray needs the package ray, which is not installed here. Install it with "
            "`pip install -r requirements-ray.txt`, or leave ENGINE out to use this machine alone."
        ) from None
    began = not ray.is_initialized()
    if began:
        address = os.environ.get("RAY_ADDRESS")
        # Without an address Ray starts here, with as many processes as the local engine would.
        alone = {} if address else {"num_cpus": workers, "include_dashboard": False}
        ray.init(address=address, log_to_driver=False, runtime_env=surroundings(), **alone)
    remote = ray.remote(num_cpus=1, max_retries=0)(_told)
    queue, running = collections.deque(), {}
    try:
        while True:
            # Twice as many as there are processors, so that none of them waits for a job.
            while len(running) < 2 * max(1, int(ray.cluster_resources().get("CPU", 1))):
                one = _next(queue, jobs)
                if one is None:
                    break
                running[remote.remote(one[0][1], one[0][2])] = one
            if not running:
                break
            (ended, *_), _ = ray.wait(list(running))
            job, attempts = running.pop(ended)
            try:
                right, answer = ray.get(ended)
            except ray.exceptions.RayTaskError as error:  # it could not even begin
                failed[job[0]] = str(error)
                continue
            except ray.exceptions.RayError as error:
                _lost(job, attempts, type(error).__name__, queue, failed)
                continue
            if right:
                done(job[0], answer)
            else:
                failed[job[0]] = answer
    finally:
        for reference in running:
            ray.cancel(reference, force=True)
        if began:
            ray.shutdown()
