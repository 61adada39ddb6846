"""What is counted, by one process and by several."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from prometheus_client.parser import text_string_to_metric_families

from xdm.serving.telemetry import MULTIPROCESS_VARIABLE, Telemetry


def samples(telemetry: Telemetry) -> dict[tuple, float]:
    """``{(name, label values …): value}`` of what Prometheus would read."""
    text, kind = telemetry.render()
    assert kind.startswith("text/plain")
    families = text_string_to_metric_families(text.decode())
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def test_every_method_shows_in_what_prometheus_reads():
    telemetry = Telemetry()
    telemetry.request_started()
    telemetry.request_started()
    telemetry.request_ended("/v1/events", "POST", 200, 0.004, "shop")
    telemetry.refused("rate")
    telemetry.answered("popular", "deadline", 0.03)
    telemetry.answered("model", None, 0.004)
    telemetry.batch(3)
    telemetry.queue(5)
    telemetry.events(4, 1)
    telemetry.events(2, 0)
    telemetry.fault("state")
    telemetry.swapped("activated")
    telemetry.serves("a", "f1", 10)
    telemetry.serves("b", "f2", 12)
    found = samples(telemetry)
    expected = {
        ("xdm_http_requests_total", "POST", "/v1/events", "200"): 1,
        ("xdm_http_requests_running",): 1,
        ("xdm_key_requests_total", "shop"): 1,
        ("xdm_refused_total", "rate"): 1,
        ("xdm_answers_total", "deadline", "popular"): 1,
        ("xdm_answers_total", "", "model"): 1,
        ("xdm_answer_seconds_count",): 2,
        ("xdm_answer_seconds_bucket", "0.005"): 1,
        ("xdm_answer_seconds_bucket", "0.05"): 2,
        ("xdm_batch_questions_sum",): 3,
        ("xdm_queue_depth",): 5,
        ("xdm_events_total", "accepted"): 6,
        ("xdm_events_total", "duplicate"): 1,
        ("xdm_faults_total", "state"): 1,
        ("xdm_model_swaps_total", "activated"): 1,
        ("xdm_model_workers", "f1", "a"): 0,
        ("xdm_model_workers", "f2", "b"): 1,
        ("xdm_catalogue_items",): 12,
    }
    assert {name: found.get(name) for name in expected} == expected


def test_the_samples_that_are_named_are_those_that_prometheus_reads():
    telemetry = Telemetry()
    telemetry.request_started()
    telemetry.request_ended("/x", "GET", 200, 0.1, "k")
    telemetry.answered("model", None, 0.1)
    telemetry.batch(1)
    telemetry.events(1, 1)
    for method in (telemetry.refused, telemetry.fault, telemetry.swapped):
        method("x")
    telemetry.serves("a", "f", 1)
    families = text_string_to_metric_families(telemetry.render()[0].decode())
    read = {s.name: set(s.labels) for family in families for s in family.samples if s.name.startswith("xdm_")}
    read = {name: labels for name, labels in read.items() if not name.endswith("_created")}
    assert read == {name: set(labels) for name, labels in telemetry.samples.items()}


WORKER = """
import json, sys
from xdm.serving.telemetry import Telemetry
telemetry = Telemetry()
telemetry.events(int(sys.argv[1]), 0)
telemetry.request_started()
telemetry.serves("a", "f", 7)
telemetry.answered("model", None, 0.004)
print(json.dumps(telemetry.render()[0].decode()), flush=True)
sys.stdin.read()
"""


def test_any_worker_answers_for_all_and_a_dead_ones_counts_stay(tmp_path):
    from prometheus_client.multiprocess import mark_process_dead

    environment = os.environ | {MULTIPROCESS_VARIABLE: str(tmp_path)}

    def worker(events: int) -> tuple[subprocess.Popen, str]:
        command = [sys.executable, "-c", WORKER, str(events)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        process = subprocess.Popen(command, env=environment, **pipes)
        return process, json.loads(process.stdout.readline())

    first, _ = worker(1)
    second, text = worker(2)
    assert 'xdm_events_total{outcome="accepted"} 3.0' in text
    assert "xdm_answer_seconds_count 2.0" in text
    first.kill()
    first.communicate()
    mark_process_dead(first.pid, str(tmp_path))
    third, text = worker(4)
    for process in (second, third):
        process.kill()
        process.communicate()
    assert 'xdm_events_total{outcome="accepted"} 7.0' in text
    assert "xdm_http_requests_running 2.0" in text  # of the two that live


@pytest.mark.parametrize("status", [200, 404])
def test_labels_are_the_same_whatever_the_type_they_came_in(status):
    telemetry = Telemetry()
    telemetry.request_started()
    telemetry.request_ended("/x", "GET", status, 0.1, None)
    assert samples(telemetry)["xdm_http_requests_total", "GET", "/x", str(status)] == 1
