"""``pannier login`` and ``logout``."""

from __future__ import annotations

import os
import sys

from pannier.cli.command import Command, UsageError, arg, flag, text
from pannier.cli.credentials import DOCKER_HUB, CredentialStore, server_key
from pannier.errors import PannierError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pannier.cli.command import Values
    from pannier.cli.context import Context

__all__ = ["LOGIN", "LOGOUT"]


def _login(ctx: Context, values: Values) -> int:
    server = server_key(values.args[0]) if values.args else DOCKER_HUB
    username = values.text("username")
    password = values.text("password")
    if values.on("password-stdin"):
        if values.given("password"):
            raise UsageError("--password and --password-stdin are mutually exclusive", code=1)
        if not username:
            raise UsageError("the --password-stdin option requires --username to be set", code=1)
        # One line end belongs to the shell's echo; every other character may be the password's.
        password = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    elif password:
        ctx.err("WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
    store = CredentialStore()
    if not username and not password and _again(ctx, store, server):
        return 0
    username, password = _asked(server, username, password)
    token = _check(ctx, server, {"username": username, "password": password})
    if store.store(server, username, password, token):
        ctx.err(
            f"WARNING! The password is stored unencrypted in {store.path}. "
            "A credential helper (credsStore) keeps it elsewhere."
        )
    ctx.out("Login Succeeded")
    return 0


def _again(ctx: Context, store: CredentialStore, server: str) -> bool:
    """Log in with what is known already; whether that was possible."""
    known = store.get(server)
    if not known.get("username") and not known.get("identitytoken"):
        return False
    ctx.out("Authenticating with existing credentials...")
    try:
        _check(ctx, server, known)
    except PannierError as error:
        ctx.err(f"Login did not succeed, error: {error}")
        return False
    ctx.out("Login Succeeded")
    return True


def _asked(server: str, username: str, password: str) -> tuple[str, str]:
    if username and password:
        return username, password
    if not os.isatty(0):
        raise UsageError(
            "cannot perform an interactive login from a non TTY device",
            code=1,
            hint="give --username, and the password with --password-stdin",
        )
    import getpass

    sys.stdout.write(f"Log in to {server}\n")
    sys.stdout.flush()
    try:
        username = username or input("Username: ").strip()
        password = password or getpass.getpass("Password: ")
    except EOFError:
        sys.stdout.write("\n")
    if not username or not password:
        raise UsageError("a user name and a password are needed", code=1)
    return username, password


def _check(ctx: Context, server: str, credentials: dict[str, str]) -> str:
    body = {**credentials, "serveraddress": server}
    answer = ctx.client.post("/auth", None, body) or {}
    return str(answer.get("IdentityToken") or "")


def _logout(ctx: Context, values: Values) -> int:
    server = server_key(values.args[0]) if values.args else DOCKER_HUB
    if CredentialStore().erase(server):
        ctx.out(f"Removing login credentials for {server}")
    else:
        ctx.out(f"Not logged in to {server}")
    return 0


LOGIN = Command(
    "login",
    "Log in to a registry",
    _login,
    flags=[
        text("-u,--username", "Username"),
        text("-p,--password", "Password"),
        flag("--password-stdin", "Take the password from stdin"),
    ],
    args=[arg("SERVER", least=0)],
    example="pannier login registry.example:5000",
)
LOGOUT = Command(
    "logout",
    "Log out from a registry",
    _logout,
    args=[arg("SERVER", least=0)],
    example="pannier logout registry.example:5000",
)
