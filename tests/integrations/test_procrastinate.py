"""The program of the page about schedulers under Procrastinate, whose workers die.

One server has both the queue and the runs.
"""

import signal

import pytest

from support.postgres import Postgres
from support.workers import Workers

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

HASTY = "programs.hasty_procrastinate"
SLOW = "0.03"  # seconds per item, of which there are 200
RESULT = f"2026-11-30: {sum(range(200))}"  # each item once
TASKS = ["make_report", "make_summary"]  # in a thread, and in the event loop


@pytest.fixture
def server():
    server = Postgres()
    yield server
    server.remove()


@pytest.fixture
def workers(tmp_path, server, library):
    library("procrastinate")
    workers = Workers(tmp_path, server.url, DATABASE_URL=server.url)
    workers.run("-m", "procrastinate", "--app", "procrastinate_jobs.app", "schema", "--apply")
    yield workers
    workers.kill_all()


def begin(workers, program="procrastinate_jobs", *, seconds=SLOW):
    return workers.start("-c", f"import {program}; {program}.main()", SECONDS_PER_ITEM=seconds)


def deliver(workers, task, **options):
    workers.run(
        "-c", f"from procrastinate_jobs import app, {task} as task\n"
        f"with app.open(): task.configure(**{options}).defer(day='2026-11-30')",
    )  # fmt: skip


def states(server):
    """The states of the jobs, in the order in which they were delivered."""
    jobs = server.ask(
        "SELECT status::text FROM procrastinate_jobs WHERE task_name LIKE '%make%' ORDER BY id"
    )
    return [state for (state,) in jobs]


def fetch_now(server):
    """Let the job that waits for its time be fetched."""
    server.ask("UPDATE procrastinate_jobs SET scheduled_at = now() WHERE status = 'todo'")


@pytest.mark.parametrize("task", TASKS)
def test_the_job_of_a_killed_worker_goes_on_in_another_one(workers, server, task):
    first = begin(workers, HASTY)
    deliver(workers, task)
    workers.until_in_the_middle()
    workers.kill(first)
    begin(workers, HASTY, seconds="0.0")
    assert workers.until_done().attempt == 2
    workers.wait_until(lambda: states(server) == ["succeeded"])
    assert workers.said().count(RESULT) == 1
    assert "attempt 2 goes on after crash" in workers.said()


def test_where_another_job_has_the_queueing_lock_that_one_goes_on(workers, server):
    """Known fault: the lock keeps a stalled job, and all after it, from being fetched again."""
    first, lock = begin(workers, HASTY), {"queueing_lock": "report-2026-11-30"}
    deliver(workers, "make_report", **lock)
    workers.until_in_the_middle()
    workers.kill(first)
    deliver(workers, "make_report", schedule_in={"hours": 1}, **lock)
    begin(workers, HASTY, seconds="0.0")
    workers.wait_until(lambda: states(server) == ["aborted", "todo"])
    fetch_now(server)
    assert workers.until_done().attempt == 2
    workers.wait_until(lambda: states(server) == ["aborted", "succeeded"])


@pytest.mark.parametrize("task", TASKS)
def test_a_worker_that_ends_gives_its_job_back(workers, server, task):
    first = begin(workers)
    deliver(workers, task)
    workers.until_in_the_middle()
    first.terminate()
    assert first.wait(60) == 0, workers.said()
    assert workers.record().status == "interrupted"
    assert states(server) == ["todo"]
    begin(workers, seconds="0.0")
    assert workers.until_done().attempt == 2
    workers.wait_until(lambda: states(server) == ["succeeded"])
    assert workers.said().count(RESULT) == 1


def test_a_worker_that_ends_in_the_middle_of_a_long_item_gives_its_job_back(workers, server):
    first = begin(workers, HASTY, seconds="3600")
    deliver(workers, "make_summary")
    workers.wait_until(workers.record)
    first.terminate()
    assert first.wait(60) == 0, workers.said()
    assert workers.record().status == "interrupted"
    assert states(server) == ["todo"]
    begin(workers, seconds="0.0")
    assert workers.until_done().attempt == 2
    workers.wait_until(lambda: states(server) == ["succeeded"])


@pytest.mark.parametrize("task", TASKS)
def test_a_job_that_is_fetched_while_it_runs_waits_for_its_turn(workers, server, task):
    first = begin(workers, HASTY)
    deliver(workers, task)
    workers.until_in_the_middle()
    begin(workers, HASTY)
    workers.wait_until(lambda: workers.said().count("Starting worker") == 2)
    first.send_signal(signal.SIGSTOP)  # which looks like its end
    workers.wait_until(lambda: "RunBusyError" in workers.said())
    first.send_signal(signal.SIGCONT)
    assert workers.until_done().attempt == 1
    workers.wait_until(lambda: states(server) == ["succeeded"])
    assert workers.said().count(RESULT) == 1


@pytest.mark.parametrize("task", TASKS)
def test_a_worker_that_another_one_took_for_dead_ends_and_its_job_is_done(workers, server, task):
    """Known fault: a worker that begins removes the stopped one, which then cannot fetch jobs."""
    first = begin(workers, HASTY)
    deliver(workers, task)
    workers.until_in_the_middle()
    first.send_signal(signal.SIGSTOP)
    workers.wait_until(lambda: server.ask(
        "SELECT 1 FROM procrastinate_workers WHERE last_heartbeat < now() - interval '2 s'"
    ))  # fmt: skip
    begin(workers, HASTY, seconds="0.0")
    workers.wait_until(lambda: "RunBusyError" in workers.said())
    first.send_signal(signal.SIGCONT)
    assert first.wait(60) == 1, workers.said()
    fetch_now(server)
    # The async job is interrupted where its worker ends, unless it has come to its own end by then.
    assert workers.until_done().attempt in ({1} if task == "make_report" else {1, 2})
    workers.wait_until(lambda: states(server) == ["succeeded"])
    assert workers.said().count(RESULT) == 1


@pytest.mark.parametrize("task", TASKS)
def test_two_jobs_of_one_run_do_its_work_once(workers, server, task):
    begin(workers)
    for _ in range(2):
        deliver(workers, task)
    assert workers.until_done().attempt == 1
    workers.wait_until(lambda: sorted(states(server)) == ["succeeded", "todo"])
    fetch_now(server)
    workers.wait_until(lambda: states(server) == ["succeeded"] * 2)
    assert workers.said().count(RESULT) == 2
    assert "attempt 2" not in workers.said()
