"""The same contexts built by Docker 20.10: configurations and file trees must be equal."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.dockerd import Dockerd, running_dockerd, why_not
from support.saved import differences, read_saved

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.daemon import Daemon

pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.fixture(scope="module")
def dockerd(busybox: Path) -> Iterator[Dockerd]:
    """Return a dockerd with the same image as the daemon."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with running_dockerd() as running:
        running.docker("load", "-i", str(busybox))
        yield running


@pytest.fixture(autouse=True)
def _older_builder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the docker client build as it did before BuildKit."""
    monkeypatch.setenv("DOCKER_BUILDKIT", "0")


def fill(folder: Path) -> None:
    """Write files of all kinds that contexts have."""

    def put(name: str, text: str, mode: int = 0o644) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    put("a.txt", "hello")
    put("run.sh", "#!/bin/sh\necho run $1\n", 0o755)
    put("dir/x", "x", 0o600)
    put("dir/sub/y.txt", "y")
    put("dir/sub/z.log", "z")
    put("dir/sub/empty/.keep", "")
    (folder / "dir").chmod(0o750)
    (folder / "link").symlink_to("a.txt")
    (folder / "dir" / "up").symlink_to("../a.txt")
    (folder / "dir" / "dangling").symlink_to("/nowhere")
    os.link(folder / "dir" / "x", folder / "dir" / "x2")
    put("app/main.sh", "#!/bin/sh\n. /app/lib/util.sh\nsay main\n", 0o755)
    put("app/lib/util.sh", 'say() { echo "util: $*"; }\n')
    put("app/requirements.txt", "one==1\ntwo==2\n")
    put("app/package.json", '{"name": "app", "version": "1.0.0"}\n')
    put("app/src/index.js", "console.log('x')\n")
    put("app/static/css/site.css", "body {}\n")
    put("app/test/secret.env", "KEY=1\n", 0o600)
    put("conf/nginx.conf", "worker_processes 1;\n")
    put("conf/sites/default", "server {}\n")
    put("entrypoint.sh", '#!/bin/sh\nset -e\nexec "$@"\n', 0o755)
    put("src/hello.c", "int main(void) { return 0; }\n")
    put("src/Makefile", "all:\n\tcp hello.c hello\n")
    with tarfile.open(folder / "tree.tgz", "w:gz") as archive:
        archive.add(folder / "dir", ".")
    with tarfile.open(folder / "part.tar", "w") as archive:
        archive.add(folder / "dir" / "sub", "sub")
        info = tarfile.TarInfo("owned")
        info.size, info.uid, info.gid, info.mode = 2, 33, 100, 0o4750
        archive.addfile(info, io.BytesIO(b"ok"))
    shutil.copy(folder / "part.tar", folder / "part.data")


# Each is modelled on what projects of its kind have; the programs are busybox's.
DOCKERFILES = {
    "copies": """\
FROM busybox
COPY a.txt /one
COPY a.txt run.sh /two/
COPY dir /three
COPY dir/ /four/
COPY dir /tmp
COPY link /l
COPY link /ll/
COPY *.txt /five/
COPY dir/s* dir/x* /six/
ADD tree.tgz /seven
ADD part.tar /eight/
ADD part.data /nine/deep/
ADD dir /ten/
COPY --chown=www-data a.txt /eleven
COPY --chown=33:0 dir /twelve/deep/er
COPY --chown=operator:users dir/sub/ /tmp/
COPY --chown=33 a.txt /thirteen/deep/er/
WORKDIR /w/x
COPY a.txt .
COPY a.txt sub/
WORKDIR rel
COPY . ./
COPY ["a.txt", "/json form"]
RUN ln -s /three /to && ln -s /one /file
COPY a.txt /to/
COPY run.sh /file
COPY dir /to/sub
""",
    "metadata": """\
FROM busybox
MAINTAINER some one
ARG FOO=1
ARG BAR
ENV A=b C="d e" E=$A
ENV old form value here
LABEL x=y "quoted key"="v \\"w" multi="a \\
b"
USER nobody
WORKDIR /home/nobody
VOLUME /data /more
VOLUME ["/json"]
EXPOSE 80 443/udp 8000-8002
STOPSIGNAL SIGQUIT
HEALTHCHECK --interval=5m --timeout=3s --start-period=1m30s --retries=3 CMD wget -q x || exit 1
SHELL ["/bin/sh","-ec"]
RUN echo $FOO $BAR $A
CMD echo hi
ENTRYPOINT ["/bin/echo","a b"]
CMD ["x","y"]
ONBUILD RUN echo triggered
ONBUILD COPY . /src
""",
    "commands": """\
FROM busybox
ARG V=3
RUN mkdir -p /opt/a && echo $V > /opt/a/f && chmod 4755 /opt/a/f
RUN rm -rf /var/www && rm /etc/group
RUN ["/bin/sh","-c","echo exec > /x"]
RUN true
RUN ln -s /x /y && ln /x /z && mkfifo /p
RUN rm /x && mkdir /x && echo 1 > /x/1
RUN chown -R 33:33 /opt && chmod 700 /home
RUN mv /opt /moved
VOLUME /vol
RUN echo gone > /vol/f && echo stays > /stay
RUN rm -rf /tmp && mkdir /tmp && touch /tmp/new
WORKDIR /x
WORKDIR /newdir/a
""",
    "scratch": """\
FROM scratch
COPY a.txt /
COPY dir /d/
CMD ["/a.txt"]
""",
    "stages": """\
ARG B=busybox
FROM ${B} AS base
RUN echo base > /base
FROM base AS one
RUN echo one > /one
FROM base as two
RUN mkdir /two && echo two > /two/f && chown 33:33 /two/f
FROM busybox
COPY --from=one /one /x/
COPY --from=1 /base /
COPY --from=two /two /t
COPY --from=busybox /etc/passwd /pw
COPY --from=two --chown=33 /two/f /g
""",
    "python-service": """\
ARG PYTHON_IMAGE=busybox:latest
FROM $PYTHON_IMAGE
ENV PYTHONUNBUFFERED=1 \\
    PIP_NO_CACHE_DIR=off \\
    PATH="/venv/bin:$PATH"
LABEL org.opencontainers.image.title="service" org.opencontainers.image.licenses=MIT
RUN echo 'app:x:1000:' >> /etc/group && echo 'app:x:1000:1000::/app:/bin/sh' >> /etc/passwd
WORKDIR /app
COPY app/requirements.txt .
RUN mkdir -p /venv/bin && while read -r line; do echo "$line" >> /venv/installed; done \\
      < requirements.txt
COPY --chown=1000:1000 app/ .
RUN chmod -R a-w /app/lib
USER app
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s CMD ["/bin/true"]
ENTRYPOINT ["/app/main.sh"]
CMD ["--workers", "4"]
""",
    "node-service": """\
FROM busybox AS deps
WORKDIR /usr/src/app
COPY app/package*.json ./
RUN mkdir -p node_modules/left-pad && echo 'module.exports = 1' > node_modules/left-pad/index.js
FROM deps AS build
COPY app/src ./src
RUN mkdir dist && cat src/*.js > dist/bundle.js
FROM busybox
ENV NODE_ENV production
WORKDIR /usr/src/app
COPY --from=deps /usr/src/app/node_modules ./node_modules
COPY --from=build /usr/src/app/dist ./dist
COPY app/package.json .
EXPOSE 3000
CMD [ "cat", "dist/bundle.js" ]
""",
    "go-binary": """\
# escape=\\
FROM busybox AS builder
ARG VERSION=dev
ARG TARGET=/out/server
WORKDIR /src
COPY src .
RUN mkdir -p /out && cp hello.c ${TARGET} && echo "$VERSION" >> ${TARGET} && chmod 0755 ${TARGET}
FROM scratch
COPY --from=builder /etc/passwd /etc/group /etc/
COPY --from=builder /out/server /server
USER 65534:65534
ENTRYPOINT ["/server"]
""",
    "web-server": """\
FROM busybox
RUN set -eux; \\
    mkdir -p /etc/nginx/sites /var/log/nginx /var/cache/nginx; \\
    # links to the streams, as the real one has them
    ln -sf /dev/stdout /var/log/nginx/access.log; \\
    ln -sf /dev/stderr /var/log/nginx/error.log; \\
    chown -R www-data:www-data /var/cache/nginx
COPY conf/nginx.conf /etc/nginx/nginx.conf
COPY conf/sites/* /etc/nginx/sites/
ADD tree.tgz /usr/share/nginx/html/
COPY app/static /usr/share/nginx/html/static
VOLUME ["/var/cache/nginx"]
STOPSIGNAL SIGTERM
EXPOSE 80/tcp 443/tcp
CMD ["nginx", "-g", "daemon off;"]
""",
    "database": """\
FROM busybox
ENV PGDATA=/var/lib/data/db LANG=C.UTF-8
RUN echo 'database:x:999:999::/var/lib/data:/bin/sh' >> /etc/passwd \\
 && mkdir -p "$PGDATA" /docker-entrypoint-initdb.d \\
 && chown -R database "$PGDATA" && chmod 777 "$PGDATA"
VOLUME /var/lib/data/db
COPY entrypoint.sh /usr/local/bin/
RUN ln -s usr/local/bin/entrypoint.sh /
ENTRYPOINT ["entrypoint.sh"]
STOPSIGNAL SIGINT
EXPOSE 5432
CMD ["database"]
""",
    "compiled-from-source": """\
FROM busybox AS toolchain
RUN mkdir -p /toolchain/bin && printf '#!/bin/sh\\ncp "$1" "$2"\\n' > /toolchain/bin/cc \\
 && chmod +x /toolchain/bin/cc
FROM toolchain AS compile
COPY src/ /build/
WORKDIR /build
RUN /toolchain/bin/cc hello.c hello && mkdir -p /install/usr/bin /install/usr/share/doc/hello \\
 && cp hello /install/usr/bin/hello && chmod 0755 /install/usr/bin/hello \\
 && cp Makefile /install/usr/share/doc/hello/Makefile
FROM compile AS test
RUN test -x /install/usr/bin/hello
FROM busybox
LABEL stage=final
COPY --from=compile /install /
COPY --from=test /install/usr/share/doc /doc
RUN rm -rf /home/* /var/www
CMD hello
""",
    "cleanup-in-layers": """\
FROM busybox
RUN mkdir -p /var/lib/apt/lists /var/cache && for i in 1 2 3 4 5; do echo $i > /var/cache/$i; done
RUN rm -rf /var/cache/1 /var/cache/2 && echo new > /var/cache/3
RUN rm -rf /var/cache && mkdir /var/cache && echo again > /var/cache/1
RUN rm -rf /var/lib/apt && ln -s /tmp /var/lib/apt
RUN rm /var/lib/apt && mkdir -p /var/lib/apt/deep && touch /var/lib/apt/deep/f
RUN chmod 1777 /var/cache && chown 33:33 /var/cache
RUN touch -h /bin/sh; chmod 755 /bin; rm -f /bin/yes; ln /bin/busybox /bin/yes
""",
    "worker-with-arguments": """\
ARG REGISTRY=""
ARG TAG=latest
FROM ${REGISTRY}busybox:${TAG} AS common
ARG TAG
ARG BUILD_DATE=unknown
ARG REVISION
ENV APP_TAG=${TAG} APP_REVISION=${REVISION:-none} APP_EXTRA=${REVISION:+set}
LABEL build-date=$BUILD_DATE tag="$TAG"
FROM common
ARG FLAVOUR=plain
ARG DERIVED=${FLAVOUR}-${APP_TAG}
WORKDIR /opt/${FLAVOUR}
COPY run.sh bin/${DERIVED}.sh
RUN echo "$FLAVOUR $DERIVED $APP_REVISION" > info
USER 1000
CMD ./bin/${DERIVED}.sh "$APP_TAG"
""",
}


@pytest.mark.parametrize("name", DOCKERFILES)
def test_images_are_equal(daemon: Daemon, dockerd: Dockerd, tmp_path: Path, name: str) -> None:
    """Configuration, history, and each layer's owners, modes, sizes, links and contents."""
    fill(tmp_path)
    (tmp_path / "Dockerfile").write_text(DOCKERFILES[name])
    tag = f"compared-{name}:1"
    arguments = ("--build-arg", "FLAVOUR=strong", "--build-arg", "FOO=2")
    theirs = dockerd.docker("build", "-t", tag, *arguments, str(tmp_path), check=False)
    assert theirs.returncode == 0, theirs.stdout.decode() + theirs.stderr.decode()
    ours = daemon.docker("build", "-t", tag, *arguments, str(tmp_path), check=False)
    assert ours.returncode == 0, ours.stdout + ours.stderr
    saved = tmp_path.parent / f"{tmp_path.name}.tar"
    daemon.cli("save", "-o", str(saved), tag)
    found = differences(
        read_saved(saved.read_bytes()), read_saved(dockerd.docker("save", tag).stdout)
    )
    assert found == []


def test_digests_in_histories_are_dockers(daemon: Daemon, dockerd: Dockerd, tmp_path: Path) -> None:
    """Of files and folders of the context, so that one engine's images are the other's cache."""
    fill(tmp_path)
    (tmp_path / "dir" / "up").unlink()
    (tmp_path / "dir" / "dangling").unlink()
    (tmp_path / "dir" / "x2").unlink()
    (tmp_path / "Dockerfile").write_text(
        "FROM busybox\nCOPY a.txt /\nCOPY link /\nCOPY dir /d\nCOPY a.txt run.sh /two/\n"
    )
    dockerd.docker("build", "-t", "digests:1", str(tmp_path))
    daemon.docker("build", "-t", "digests:1", str(tmp_path))
    theirs = dockerd.docker("history", "-q", "digests:1").stdout.split()
    assert len(theirs) == 5
    form = ("history", "--no-trunc", "--format", "{{.CreatedBy}}", "digests:1")
    assert daemon.cli(*form).stdout.splitlines() == (
        dockerd.docker(*form).stdout.decode().splitlines()
    )


def test_an_image_of_docker_is_our_cache(daemon: Daemon, dockerd: Dockerd, tmp_path: Path) -> None:
    """--cache-from takes Docker's steps over."""
    fill(tmp_path)
    text = 'FROM busybox\nARG A=cached\nCOPY a.txt /\nRUN echo $A > /from\nCMD ["x"]\n'
    (tmp_path / "Dockerfile").write_text(text)
    dockerd.docker("build", "-t", "theirs:1", str(tmp_path))
    saved = dockerd.docker("save", "theirs:1").stdout
    daemon.cli("load", input=saved)
    said = daemon.cli("build", "--cache-from", "theirs:1", str(tmp_path)).stdout
    assert said.count("Using cache") == 4


def test_a_debian_is_built_upon(daemon: Daemon, dockerd: Dockerd, tmp_path: Path) -> None:
    """A base of thousands of files, with users and packages of its own."""
    base = Path(os.environ.get("PANNIER_TEST_DEBIAN", "/tmp/reg/minbase"))
    if not (base / "etc" / "debian_version").exists():
        pytest.skip("set PANNIER_TEST_DEBIAN to a tree made by debootstrap --variant=minbase")
    archive = tmp_path / "debian.tar"
    subprocess.run(
        ["tar", "-C", str(base), "--one-file-system", "--numeric-owner", "-cf", str(archive), "."],
        check=True,
    )
    daemon.cli("import", str(archive), "minbase:1", timeout=120)
    dockerd.docker("import", str(archive), "minbase:1")
    folder = tmp_path / "c"
    folder.mkdir()
    fill(folder)
    (folder / "Dockerfile").write_text(
        """\
FROM minbase:1 AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN useradd --system --uid 950 --create-home --shell /usr/sbin/nologin service \\
 && passwd -l service && rm -f /etc/*- /var/log/faillog /var/log/lastlog
COPY --chown=service:service app /srv/app
RUN dpkg-query -W -f '${Package}\\n' | sort > /srv/packages \\
 && dpkg --configure -a && rm -rf /var/log/dpkg.log /usr/share/doc/perl-base /var/lib/dpkg/*-old
RUN cp -a /usr/bin/perl /srv/perl && chmod 2755 /srv/perl && ln /srv/perl /srv/perl2
FROM minbase:1
COPY --from=build /etc/passwd /etc/group /etc/
COPY --from=build /srv /srv
USER service
WORKDIR /srv/app
CMD ["./main.sh"]
"""
    )
    theirs = dockerd.docker("build", "-t", "debian-app:1", str(folder), check=False)
    assert theirs.returncode == 0, theirs.stdout.decode() + theirs.stderr.decode()
    ours = daemon.docker("build", "-t", "debian-app:1", str(folder), check=False, timeout=120)
    assert ours.returncode == 0, ours.stdout + ours.stderr
    saved = tmp_path / "saved.tar"
    for target in ("build", ""):
        flags = ("--target", target) if target else ()
        daemon.docker("build", "-t", "debian-app:2", *flags, str(folder))
        dockerd.docker("build", "-t", "debian-app:2", *flags, str(folder))
        daemon.cli("save", "-o", str(saved), "debian-app:2")
        mine = read_saved(saved.read_bytes())
        other = read_saved(dockerd.docker("save", "debian-app:2").stdout)
        # Imports name their own day.
        found = [line for line in differences(mine, other) if not line.startswith("step 0:")]
        assert found == []
