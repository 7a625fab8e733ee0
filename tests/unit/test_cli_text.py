"""Units, templates, tables and the words of states."""

from __future__ import annotations

import json
from typing import Any

import pytest

from swarmd.cli import states, units
from swarmd.cli.listing import Layout, listing
from swarmd.cli.names import random_name
from swarmd.cli.table import ellipsis, layout, natural_key
from swarmd.kit.template import TemplateError, render
from swarmd.rpc.v1 import types_pb2


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2s", 2.0), ("1m30s", 90.0), ("500ms", 0.5), ("1.5h", 5400.0), ("0", 0.0), ("10us", 1e-05)],
)
def test_go_durations_are_read(text: str, seconds: float) -> None:
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "-2s", "2 s", "s", "1x", "1s2"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        units.parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(5, "5s"), (90, "1m30s"), (7776000, "2160h0m0s"), (0.5, "500ms"), (1.5, "1.5s"), (0, "0s")],
)
def test_durations_are_written_as_go_does(seconds: float, text: str) -> None:
    assert units.format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "size"), [("512m", 512 << 20), ("1g", 1 << 30), ("1.5GiB", 3 << 29), ("10kb", 10240), ("7", 7)]
)
def test_sizes_are_powers_of_1024(text: str, size: int) -> None:
    assert units.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "m", "-1m", "1q", "1 2"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid size"):
        units.parse_size(text)


def test_cpus_are_nano_cpus() -> None:
    assert units.parse_cpus("0.5") == 500_000_000
    assert units.format_cpus(500_000_000) == "0.5"
    assert units.format_cpus(2_000_000_000) == "2"


@pytest.mark.parametrize("text", ["x", "-1", "nan", "0.0000000001"])
def test_what_is_no_number_of_cpus_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        units.parse_cpus(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "Less than a second"),
        (1, "1 second"),
        (59.9, "59 seconds"),
        (60, "About a minute"),
        (180, "3 minutes"),
        (3600, "About an hour"),
        (47 * 3600, "47 hours"),
        (3 * 86400, "3 days"),
        (20 * 86400, "2 weeks"),
        (90 * 86400, "3 months"),
        (3 * 365 * 86400, "3 years"),
    ],
)
def test_ages_are_told_as_docker_tells_them(seconds: float, text: str) -> None:
    assert units.human_duration(seconds) == text


def test_sizes_are_shown_with_few_digits() -> None:
    assert units.format_binary(25276000000) == "23.54GiB"
    assert units.format_decimal(4261550) == "4.26MB"


def test_times_are_rfc3339_without_trailing_zeros() -> None:
    assert units.rfc3339(1795451479.5) == "2026-11-23T16:31:19.5Z"
    assert units.rfc3339(1795451479) == "2026-11-23T16:31:19Z"


def test_since_takes_points_in_time_and_durations() -> None:
    assert units.parse_since("42m", 10000.0) == 10000.0 - 2520
    assert units.parse_since("1795451479", 0) == 1795451479
    assert units.parse_since("2026-11-23T16:31:19Z", 0) == 1795451479
    with pytest.raises(ValueError, match="no point in time"):
        units.parse_since("yesterday", 0)


def test_columns_are_at_least_ten_wide_and_three_apart() -> None:
    assert layout([["A", "ERROR", "C"], ["twelve_chars", "", "x"]]) == [
        "A              ERROR     C",
        "twelve_chars             x",
    ]


def test_long_text_ends_in_an_ellipsis() -> None:
    assert ellipsis("abcdef", 6) == "abcdef"
    assert ellipsis("abcdefg", 6) == "abcde…"


def test_numbers_in_names_sort_by_value() -> None:
    assert sorted(["m10", "m2", "10", "2", "m"], key=natural_key) == ["2", "10", "m", "m2", "m10"]


DATA: dict[str, Any] = {
    "ID": "abc",
    "N": 3,
    "Self": True,
    "Spec": {"Labels": {"b": "2", "a": "1"}},
    "L": ["x", "y"],
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{.ID}}:{{ .N }}", "abc:3"),
        ("{{json .Spec}}", '{"Labels":{"b":"2","a":"1"}}'),
        ("{{json .ID}}", '"abc"'),
        ("{{.Spec.Labels}} {{.L}} {{.Self}}", "map[a:1 b:2] [x y] true"),
        ("{{if .Self}}*{{else}} {{end}}", "*"),
        ("{{if eq .ID `x`}}1{{else if eq .N 3}}2{{else}}3{{end}}", "2"),
        ("{{range .L}}<{{.}}{{$.N}}>{{end}}", "<x3><y3>"),
        ("{{range .Spec.Labels}}{{.}}{{else}}none{{end}}", "12"),
        ("{{.ID | upper | printf `%-5s|`}}", "ABC  |"),
        ("{{upper (lower .ID)}}{{len .L}}", "ABC2"),
        ('{{join .L ", "}}', "x, y"),
        ('{{println .ID "z"}}', "abc z\n"),
        ('{{index .Spec.Labels "a"}}', "1"),
        ("a {{- .ID -}} b{{/* nothing */}}", "aabcb"),
        ("{{if ne .N 3}}x{{end}}{{if and .Self (not .N)}}y{{end}}", ""),
    ],
)
def test_the_template_subset_does_what_go_does(template: str, text: str) -> None:
    assert render(template, DATA) == text


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("{{.Nope}}", "there is no field Nope here"),
        ("{{.ID.X}}", "there is no field X"),
        ("{{nope .ID}}", 'function "nope" not defined'),
        ("{{.ID", "unclosed action"),
        ("{{if .ID}}", "without {{end}}"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{}}", "missing value"),
        ("{{len .N}}", "error calling len"),
        ("{{range .ID}}{{end}}", "can't iterate"),
        ("{{.ID .N}}", "unexpected"),
        ("{{(.ID}}", "unclosed left paren"),
        ("{{.ID | .N}}", "cannot pipe"),
        ("{{&}}", "cannot read"),
        ('{{"\\q"}}', "cannot read"),
        ("{{if 1}}" * 60, "blocks in each other"),
        ("{{if 1}}{{else if 1}}" + "{{else if 1}}" * 60, "blocks in each other"),
        ("{{" + "(" * 60 + "1" + ")" * 60 + "}}", "parentheses"),
        ("{{print" + " 1" * 300 + "}}", "words in one action"),
        ("{{" + " " * 100_000, "unclosed action"),
        ("{{" * 50_000, "unclosed action"),
        ("{{" + "9" * 5000 + "}}", "cannot read"),
    ],
)
def test_a_wrong_template_is_explained(template: str, complaint: str) -> None:
    with pytest.raises(TemplateError) as caught:
        render(template, DATA)
    assert complaint in str(caught.value)


FORM = Layout(("ID", "Name"), {"ID": "ID", "Name": "NAME", "Mode": "MODE"})
ROWS = [{"ID": "1", "Name": "web", "Mode": "replicated"}]


@pytest.mark.parametrize(
    ("template", "quiet", "lines"),
    [
        (None, False, ["ID        NAME", "1         web"]),
        (None, True, ["1"]),
        (r"table {{.Name}}\t{{.Mode}}", False, ["NAME      MODE", "web       replicated"]),
        ("{{.Name}}!", False, ["web!"]),
        (
            "json",
            False,
            [json.dumps({"ID": "1", "Mode": "replicated", "Name": "web"}, separators=(",", ":"))],
        ),
    ],
)
def test_a_listing_has_every_docker_format(template: str | None, quiet: bool, lines: list[str]) -> None:
    assert listing(FORM, ROWS, template, quiet) == lines


def test_errors_in_tables_are_cut_and_quoted() -> None:
    assert states.error_cell("No such image: nosuch:2", True) == '"No such image: nosuch:2"'
    long = "no suitable node (host-mode port already in use on 3 nodes)"
    assert states.error_cell(long, True) == '"no suitable node (host-mode p…"'
    assert states.error_cell(long, False) == f'"{long}"'
    assert states.error_cell("", True) == ""


def test_image_names_lose_their_digest_and_what_is_meant_anyway() -> None:
    assert states.image_cell("nginx:1.12@sha256:" + "a" * 64) == "nginx:1.12"
    assert states.image_cell("docker.io/library/nginx:1.12") == "nginx:1.12"
    assert states.image_cell("reg:5000/a/b:1") == "reg:5000/a/b:1"


def test_neighbouring_ports_are_joined_and_host_ports_left_out() -> None:
    ports = [
        types_pb2.PortSpec(protocol="tcp", target=target, published=published, mode=mode)
        for published, target, mode in (
            (81, 91, "ingress"),
            (80, 90, "ingress"),
            (443, 443, "ingress"),
            (9, 9, "host"),
        )
    ]
    assert states.service_ports_cell(ports) == "*:80-81->90-91/tcp, *:443->443/tcp"
    assert states.task_ports_cell(ports[3:]) == "*:9->9/tcp"


def test_a_random_name_is_an_adjective_and_a_noun() -> None:
    assert random_name(lambda: 0.0) == "amber_alder"
    assert random_name(lambda: 0.999999) == "zesty_yew"
