"""The Dockerfile's text: lines, directives, heredocs, and each instruction's arguments."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pannier.build import instructions as ins
from pannier.build.instructions import Command, MountType
from pannier.build.parser import parse_dockerfile, parse_trigger
from pannier.build.runflags import parse_mount
from pannier.errors import InvalidRequest
from pannier.images.config import Healthcheck


def parse(text: str) -> list[ins.Instruction]:
    """Return the instructions of a text."""
    return list(parse_dockerfile(text.encode()).instructions)


def one(text: str) -> ins.Instruction:
    """Return the only instruction of a text."""
    [found] = parse(text)
    return found


def refused(text: str) -> str:
    """Return the message with which a text is refused."""
    with pytest.raises(InvalidRequest) as caught:
        parse(text)
    assert caught.value.message
    return caught.value.message


class TestLines:
    """From lines to statements."""

    def test_comments_and_empty_lines_count_for_nothing(self) -> None:
        """Also between continued lines."""
        found = parse("# a comment\n\nFROM x\n  # indented\nRUN a \\\n# inside\n\n  b \\\n\tc\n")
        run = found[1]
        assert isinstance(run, ins.Run)
        assert run.command == Command(("a   b \tc",), line=True)
        assert (run.source.line, run.source.end) == (5, 9)

    def test_a_doubled_escape_does_not_continue_a_line(self) -> None:
        """It stands for itself."""
        found = parse("FROM x\nRUN echo a\\\\\nRUN b\n")
        assert len(found) == 3

    def test_white_space_behind_the_escape_is_forgiven(self) -> None:
        """As Docker does."""
        run = one("RUN a \\ \t\nb")
        assert isinstance(run, ins.Run)
        assert run.command.words == ("a b",)

    def test_windows_line_ends_and_a_byte_order_mark_are_read(self) -> None:
        """Editors write them."""
        found = parse("\ufeffFROM x\r\nRUN a \\\r\n b\r\n")
        assert isinstance(found[1], ins.Run)
        assert found[1].command.words == ("a  b",)

    def test_the_escape_can_be_chosen(self) -> None:
        """By the directive, in any case and spacing."""
        dockerfile = parse_dockerfile(
            b"# syntax=docker/dockerfile:1\n#  Escape = `\nFROM x `\nAS y"
        )
        assert dockerfile.escape == "`"
        [begin] = dockerfile.instructions
        assert isinstance(begin, ins.From)
        assert begin.name == "y"

    def test_blanks_in_a_directive_are_read_at_once(self) -> None:
        """However many a hostile Dockerfile has there: as many as it may be long."""
        blanks = b" " * 1_000_000
        dockerfile = parse_dockerfile(b"#%bsyntax%b=%bx%by\nFROM x" % ((blanks,) * 4))
        assert len(dockerfile.instructions) == 1

    def test_a_directive_behind_a_comment_is_none(self) -> None:
        """Only the first lines may have them."""
        assert parse_dockerfile(b"# hello\n# escape=`\nFROM x").escape == "\\"

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("# escape=x\nFROM x", "invalid escape token"),
            ("# escape=`\n# escape=`\nFROM x", "only one escape"),
            ("", "cannot be empty"),
            ("# nothing", "cannot be empty"),
            ("FROM x\0", "null characters"),
        ],
    )
    def test_a_malformed_file_is_refused(self, text: str, words: str) -> None:
        """With a reason."""
        assert words in refused(text)

    def test_an_unknown_instruction_is_named_with_its_line(self) -> None:
        """The line is where it begins."""
        assert refused("FROM x\n\nFOO bar") == "Dockerfile:3: unknown instruction: FOO"


class TestHeredocs:
    """Text below RUN, COPY and ADD."""

    def test_a_script_of_its_own(self) -> None:
        """What is between is no instruction."""
        found = parse("FROM x\nRUN <<EOF\necho a\nFROM b\nEOF\nUSER u")
        assert [type(item) for item in found] == [ins.From, ins.Run, ins.User]
        assert isinstance(found[1], ins.Run)
        [heredoc] = found[1].heredocs
        assert (heredoc.name, heredoc.content, heredoc.expand) == ("EOF", "echo a\nFROM b\n", True)
        assert found[2].source.line == 6

    def test_quotes_keep_variables_and_a_dash_takes_tabs_off(self) -> None:
        """As in a shell."""
        copy = one("COPY <<-'EOF' /x\n\ta $b\n\t\tc\n\tEOF")
        assert isinstance(copy, ins.Copy)
        [heredoc] = copy.heredocs
        assert (heredoc.text, heredoc.expand) == ("a $b\nc\n", False)

    def test_several_follow_one_another(self) -> None:
        """In the order of their names."""
        copy = one("COPY <<a <<b /x/\n1\na\n2\nb\n")
        assert isinstance(copy, ins.Copy)
        assert [heredoc.content for heredoc in copy.heredocs] == ["1\n", "2\n"]

    def test_one_that_does_not_end_is_refused(self) -> None:
        """With the line where it began."""
        assert refused("FROM x\nRUN <<EOF\na") == "Dockerfile:2: unterminated heredoc 'EOF'"

    def test_a_here_string_and_a_shift_are_none(self) -> None:
        """``<<<`` is the shell's business."""
        run = one("RUN cat <<<hello && echo $((1<<2))")
        assert isinstance(run, ins.Run)
        assert run.heredocs == ()

    def test_a_trigger_carries_its_own(self) -> None:
        """ONBUILD keeps the text below."""
        onbuild = one("ONBUILD COPY <<EOF /x\na\nEOF")
        assert isinstance(onbuild, ins.Onbuild)
        copy = parse_trigger(onbuild.expression, 1)
        assert isinstance(copy, ins.Copy)
        assert copy.heredocs[0].content == "a\n"


class TestInstructions:
    """Each instruction's arguments."""

    def test_from(self) -> None:
        """Names are in lower case."""
        begin = one("from --platform=$P Image:1 as Stage")
        assert isinstance(begin, ins.From)
        assert (begin.image, begin.name, begin.platform) == ("Image:1", "stage", "$P")

    def test_forms_of_commands(self) -> None:
        """JSON is executed, all else is a shell's; broken JSON too, as Docker does."""
        for text, words, line in (
            ('["a", "b c"]', ("a", "b c"), False),
            ("a b", ("a b",), True),
            ("['a']", ("['a']",), True),
            ('["a", 1]', ('["a", 1]',), True),
            ('["\\u0041"]', ("A",), False),
        ):
            found = one(f"CMD {text}")
            assert isinstance(found, ins.Cmd)
            assert found.command == Command(words, line=line)
        assert isinstance(one("ENTRYPOINT []"), ins.Entrypoint)

    def test_pairs(self) -> None:
        """New and old form; quotes stay until variables are replaced."""
        env = one('ENV a=b c="d e" f=g\\ h')
        assert isinstance(env, ins.Env)
        assert env.pairs == (("a", "b"), ("c", '"d e"'), ("f", "g\\ h"))
        old = one("ENV a  b c=d")
        assert isinstance(old, ins.Env)
        assert old.pairs == (("a", "b c=d"),)
        label = one("LABEL com.example.x=1")
        assert isinstance(label, ins.Label)
        assert label.pairs == (("com.example.x", "1"),)

    def test_arg(self) -> None:
        """Several at once, with and without a default."""
        arg = one("ARG a b=1 c=")
        assert isinstance(arg, ins.Arg)
        assert arg.pairs == (("a", None), ("b", "1"), ("c", ""))

    def test_copy_and_add(self) -> None:
        """Flags come first, in any order; the last word is the destination."""
        copy = one("COPY --from=a --chown=u:g --chmod=755 --link --exclude=x --exclude=y b c d/")
        assert isinstance(copy, ins.Copy)
        assert (copy.sources, copy.destination) == (("b", "c"), "d/")
        assert (copy.origin, copy.chown, copy.chmod) == ("a", "u:g", "755")
        assert copy.excludes == ("x", "y")
        listed = one('ADD ["a b", "/c d"]')
        assert isinstance(listed, ins.Copy)
        assert (listed.sources, listed.destination, listed.add) == (("a b",), "/c d", True)

    def test_run_mounts(self) -> None:
        """Each kind with its defaults."""
        run = one(
            "RUN --mount=target=/b --mount=type=cache,dst=/c,sharing=locked,mode=0700,uid=5 "
            "--mount=type=tmpfs,target=/t,size=64m --mount=type=secret,id=s,required "
            "--mount=type=bind,from=x,src=/y,target=z,rw --network=none make"
        )
        assert isinstance(run, ins.Run)
        bind, cache, tmpfs, secret, other = run.mounts
        assert (bind.kind, bind.target, bind.read_only) == (MountType.BIND, "/b", True)
        assert (cache.id, cache.sharing, cache.mode, cache.uid) == ("/c", "locked", 0o700, 5)
        assert tmpfs.size == 64 << 20
        assert (secret.target, secret.required) == ("/run/secrets/s", True)
        assert (other.origin, other.source, other.read_only) == ("x", "/y", False)
        assert (run.network, run.command.words) == ("none", ("make",))

    def test_healthcheck(self) -> None:
        """Times are nanoseconds."""
        health = one("HEALTHCHECK --interval=1m30s --timeout=5s --retries=3 CMD curl -f x")
        assert isinstance(health, ins.Health)
        assert health.check == Healthcheck(
            ("CMD-SHELL", "curl -f x"), 90_000_000_000, 5_000_000_000, 0, 0, 3
        )
        none = one("HEALTHCHECK none")
        assert isinstance(none, ins.Health)
        assert none.check.test == ("NONE",)

    def test_the_rest(self) -> None:
        """Instructions of one kind of argument."""
        assert isinstance(one("EXPOSE 80 443/udp"), ins.Expose)
        volume = one('VOLUME ["/a b", "/c"]')
        assert isinstance(volume, ins.Volume)
        assert volume.paths == ("/a b", "/c")
        shell = one('SHELL ["/bin/bash", "-c"]')
        assert isinstance(shell, ins.SetShell)
        assert shell.words == ("/bin/bash", "-c")
        for text in ("WORKDIR /a b", "USER u:g", "STOPSIGNAL 9", "MAINTAINER me <a@b>"):
            assert one(text).source.rest == text.partition(" ")[2]

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("FROM", "either one argument, or three"),
            ("FROM a b", "either one argument, or three"),
            ("FROM a AS 1b", "invalid name for build stage"),
            ("RUN", "requires at least one argument"),
            ("RUN []", "requires at least one argument"),
            ("COPY a", "requires at least two arguments"),
            ("COPY --frm=x a b", "Unknown flag: frm"),
            ("ADD --from=x a b", "Unknown flag: from"),
            ("COPY --from a b", "Missing a value on flag: from"),
            ("COPY --chown=a --chown=b c d", "Duplicate flag"),
            ("COPY --link=maybe a b", "Expecting boolean value"),
            ("ENV a", "must have two arguments"),
            ("ENV a=b c", 'Syntax error - can\'t find = in "c"'),
            ("ENV =b", "names can not be blank"),
            ("LABEL", "requires at least one argument"),
            ("ARG", "requires at least one argument"),
            ("WORKDIR", "requires exactly one argument"),
            ("EXPOSE", "requires at least one argument"),
            ("VOLUME []", "requires at least one argument"),
            ('VOLUME [" "]', "can not be an empty string"),
            ("SHELL bash", "in JSON form"),
            ("HEALTHCHECK", "requires at least one argument"),
            ("HEALTHCHECK NONE x", "takes no arguments"),
            ("HEALTHCHECK FOO", 'Unknown type "FOO"'),
            ("HEALTHCHECK CMD", "Missing command"),
            ("HEALTHCHECK --retries=0 CMD x", "at least 1"),
            ("HEALTHCHECK --interval=1ns CMD x", "cannot be less than 1ms"),
            ("HEALTHCHECK --interval=x CMD x", "invalid duration"),
            ("ONBUILD", "requires at least one argument"),
            ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD"),
            ("ONBUILD FROM x", "isn't allowed as an ONBUILD trigger"),
            ("ONBUILD FOO", "unknown instruction: FOO"),
            ("RUN --security=insecure x", "--security=insecure is not supported"),
            ("RUN --mount=type=ssh x", "type=ssh is not supported"),
            ("RUN --mount=type=secret,id=a,env=A x", "(env=) is not supported"),
            ("RUN --mount=type=foo,target=/x y", "unsupported mount type"),
            ("RUN --mount=type=cache x", "target is required"),
            ("RUN --mount=type=bind,target=/ x", "cannot be the root"),
            ("RUN --mount=type=tmpfs,target=/x,from=y z", "unexpected key 'from'"),
            ("RUN --mount=type=cache,target=/x,mode=9 z", "invalid value for mode"),
            ("RUN --mount=target=/x,foo z", "must be a key=value pair"),
            ("RUN --network=other x", "unsupported network mode"),
        ],
    )
    def test_malformed_arguments_are_refused_with_the_line(self, text: str, words: str) -> None:
        """In Docker's words where it has some."""
        message = refused(f"FROM x\n{text}")
        assert message.startswith("Dockerfile:2: ")
        assert words in message


LINE = st.text(alphabet="FROMRUNCOPYENV abx=\\\"'$<>-[]{},/#:\n`\t1", max_size=120)
KEYWORDS = (
    *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL"),
    *("MAINTAINER", "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
)
REST = st.text(alphabet="abx=\\\"'$<>-[]{},/#:\n\t1 tymounrce", max_size=60)


@given(
    st.one_of(
        LINE,
        st.lists(st.tuples(st.sampled_from(KEYWORDS), REST)).map(
            lambda pairs: "\n".join(f"{keyword} {rest}" for keyword, rest in pairs)
        ),
    )
)
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """Never another error, whatever is written."""
    with contextlib.suppress(InvalidRequest):
        parse(text)


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    """Also what is no text at all."""
    with contextlib.suppress(InvalidRequest):
        parse_dockerfile(data)


MOUNTS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *("type", "source", "src", "target", "dst", "from", "id", "sharing", "mode", "uid"),
                *("gid", "size", "ro", "rw", "required", "env", "Type", ""),
            ]
        ),
        st.sampled_from(
            [
                *(
                    "=bind",
                    "=cache",
                    "=tmpfs",
                    "=secret",
                    "=ssh",
                    "=/a",
                    "=..",
                    "=/",
                    "=0755",
                    "=7",
                ),
                *("=64m", "=-1", "=true", "=0", "=locked", "", "=", "=9999999999999999999t"),
            ]
        )
        | st.text(max_size=8),
    ).map("".join),
    max_size=6,
).map(",".join)


@given(MOUNTS | st.text('typesourcdg=,/"\\ \n\0', max_size=40))
def test_any_mount_is_parsed_or_refused(text: str) -> None:
    """Never another error; what is parsed has a place."""
    with contextlib.suppress(InvalidRequest):
        assert parse_mount(text).target
