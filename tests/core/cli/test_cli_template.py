"""``--format`` templates do what Go's text/template does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pannier.cli.template import Template, TemplateError

DATA: dict[str, Any] = {
    "Name": "/web",
    "Id": "abc",
    "State": {"Status": "running", "Running": True, "Pid": 7, "Health": None},
    "Env": ["A=1", "B=2"],
    "Labels": {"b": "2", "a": "1"},
    "Empty": [],
    "Size": 1.5,
    "Whole": 3.0,
    "Label": {"a": "1"}.get,
    "Ports": {"80/tcp": [{"HostPort": "8080"}], "90/tcp": None},
}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("plain", "plain"),
        ("{{.Name}}", "/web"),
        ("{{.State.Status}}:{{.State.Pid}}", "running:7"),
        ("{{.ID}} {{.name}}", "abc /web"),
        ("{{json .State}}", '{"Status":"running","Running":true,"Pid":7,"Health":null}'),
        ("{{.Env}} {{.Labels}} {{.Size}} {{.Whole}}", "[A=1 B=2] map[a:1 b:2] 1.5 3"),
        ("{{.State.Health}}", "<no value>"),
        ("{{len .Env}} {{len .Name}} {{len .Labels}}", "2 4 2"),
        ('{{index .Env 1}} {{index .Labels "a"}}[{{index .Labels "x"}}]', "B=2 1[]"),
        ('{{(index (index .Ports "80/tcp") 0).HostPort}}', "8080"),
        ('{{join .Env ", "}} {{upper "x"}} {{lower "Y"}} {{title "ab c"}}', "A=1, B=2 X y Ab c"),
        ('{{index (split "a:b" ":") 1}} [{{pad "x" 1 2}}] {{truncate "abcdef" 3}}', "b [ x  ] abc"),
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        ("{{if .State.Nothing.Deeper}}up{{else}}down{{end}}", "down"),
        ("{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}", "none"),
        ("{{if eq .State.Pid 6}}a{{else if eq .State.Pid 7}}b{{else}}c{{end}}", "b"),
        ("{{if and .State.Running (gt .State.Pid 5) (not .Empty)}}yes{{end}}", "yes"),
        ("{{or .Empty .Name}} {{and .Name .Id}}", "/web abc"),
        ("{{range .Env}}<{{.}}>{{end}}", "<A=1><B=2>"),
        ("{{range $i, $e := .Env}}{{$i}}{{$e}} {{end}}", "0A=1 1B=2 "),
        ("{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}", "a=1;b=2;"),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ('{{range .Env}}{{if eq . "B=2"}}{{break}}{{end}}{{.}}{{end}}', "A=1"),
        ('{{range .Env}}{{if eq . "A=1"}}{{continue}}{{end}}{{.}}{{end}}', "B=2"),
        ("{{range .Env}}{{$.Name}}{{end}}", "/web/web"),
        (
            "{{range $p, $b := .Ports}}{{$p}}{{range $b}}->{{.HostPort}}{{end}} {{end}}",
            "80/tcp->8080 90/tcp ",
        ),
        ("{{with .State}}{{.Status}}{{end}}{{with .Empty}}x{{else}}y{{end}}", "runningy"),
        ("{{$x := .Name}}{{$x}}{{$x = .Id}}{{$x}}", "/webabc"),
        ('{{.Name | printf "%-6s|"}}', "/web  |"),
        (
            '{{printf "%5d|%q|%v|%.2f|%t|%x" 42 "s" .Env .Size true 255}}',
            '   42|"s"|[A=1 B=2]|1.50|true|ff',
        ),
        ('{{printf "%d %s" 1}}', "1 %!s(MISSING)"),
        ("{{println .Id 1}}", "abc 1\n"),
        ("{{print .Id 1 2}}", "abc1 2"),
        ("a {{- .Id -}} b", "aabcb"),
        ("{{/* nothing */}}x{{- /* trimmed */ -}} y", "xy"),
        ("{{\"}}\"}}{{`a\\n`}}{{'a'}}", "}}a\\n97"),
        ('{{.Label "a"}}[{{.Label "x" | print}}]', "1[<no value>]"),
        (
            "{{slice .Name 1 3}} {{ne 1 2}} {{lt 1 2}} {{le 2 2}} {{ge 1 2}}",
            "we true true true false",
        ),
        ('{{eq .Id "x" "abc"}} {{0x10}} {{1.5}} {{true}} {{-3}}', "true 16 1.5 true -3"),
        ("{{$.State.Status}}", "running"),
    ],
)
def test_templates_render(template: str, expected: str) -> None:
    """Each form of the language, with what Go prints for it."""
    assert Template(template).render(DATA) == expected


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{.Name", "unclosed action"),
        ("{{}}", "missing value"),
        ("{{.Bogus}}", "map has no entry for key 'Bogus'"),
        ("{{.Name.Deeper}}", "can't evaluate field Deeper in string"),
        ("{{bogus .Name}}", "'bogus' is not defined"),
        ("{{if .Name}}x", "{{end}} is missing"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{else}}", "unexpected {{else}}"),
        ("{{index .Env 9}}", "index out of range: 9"),
        ('{{index .Env "x"}}', "cannot index with x"),
        ("{{len 5}}", "len of type int"),
        ("{{(.Name}}", "unclosed left parenthesis"),
        ("{{.Name | }}", "missing value for command"),
        ("{{$nope}}", "undefined variable: $nope"),
        ('{{define "x"}}{{end}}', "is not offered"),
        ("{{upper .Env}}", "error calling upper"),
        ('{{"\\q"}}', "unknown escape"),
        ("{{/* open", "unclosed comment"),
        ("{{range .State.Pid.X}}{{end}}", "can't evaluate field X in int"),
        ('{{printf "%999999d" 1}}', "width is too large"),
        ('{{pad "x" 99999999 1}}', "width is too large"),
        ("{{break}}", "break or continue outside range"),
        ("{{.Name ~}}", "unexpected '~"),
        ("{{if}}x{{end}}", "missing value"),
        ("{{" + "(" * 200 + ".Name" + ")" * 200 + "}}", "too deeply"),
        ("{{if .Name}}" * 200 + "{{end}}" * 200, "too deeply"),
    ],
)
def test_mistakes_are_clear(template: str, message: str) -> None:
    """Every mistake is one kind of error that names what is wrong."""
    with pytest.raises(TemplateError) as caught:
        Template(template).render(DATA)
    assert message in str(caught.value)


PIECES = st.sampled_from(
    [
        "{{", "}}", "{{-", "-}}", ".", ".Name", ".Env", "$", "$x", ":=", "=", "|", "(", ")", ",",
        " ", "if", "else", "end", "range", "with", "json", "index", "len", "printf", "join", "1",
        "-2", "0x", '"', '"%d"', '"a"', "`", "'", "/*", "*/", "text", "\\n", "nil", "break",
        "slice", "and", "or", "not", "eq", "truncate", "pad", "1.5", "9" * 30, "é",
    ]
)  # fmt: skip


@given(st.lists(PIECES, max_size=25))
def test_any_text_renders_or_is_refused(pieces: list[str]) -> None:
    """No template breaks the renderer."""
    try:
        Template("".join(pieces)).render(DATA)
    except TemplateError:
        return


@given(st.lists(PIECES, max_size=8))
def test_any_action_renders_or_is_refused(pieces: list[str]) -> None:
    """The same within an action, where more of it is reached."""
    try:
        Template("{{" + " ".join(pieces) + "}}").render(DATA)
    except TemplateError:
        return
