"""Where each command lives; a module is imported only when one of its commands is named."""

from __future__ import annotations

__all__ = ["COMMANDS", "GROUPS", "load"]

#: A command's name to the module (within ``pannier.cli.commands``) and the attribute.
COMMANDS = {
    "attach": "attach:ATTACH",
    "build": "build:BUILD",
    "commit": "transfer:COMMIT",
    "completion": "completion:COMPLETION",
    "config": "host:config",
    "conformance": "conformance:conformance",
    "cp": "cp:CP",
    "create": "create:CREATE",
    "daemon": "daemon:DAEMON",
    "diff": "inspecting:DIFF",
    "doctor": "host:doctor",
    "drivers": "host:drivers",
    "events": "events:EVENTS",
    "exec": "exec:EXEC",
    "export": "transfer:EXPORT",
    "history": "images:HISTORY",
    "images": "images:IMAGES",
    "import": "transfer:IMPORT",
    "info": "system:INFO",
    "inspect": "inspect:INSPECT",
    "kill": "lifecycle:KILL",
    "load": "transfer:LOAD",
    "login": "login:LOGIN",
    "logout": "login:LOGOUT",
    "logs": "logs:LOGS",
    "matrix": "matrix:matrix",
    "pause": "lifecycle:PAUSE",
    "port": "inspecting:PORT",
    "ps": "ps:PS",
    "pull": "pull:PULL",
    "push": "pull:PUSH",
    "rename": "lifecycle:RENAME",
    "restart": "lifecycle:RESTART",
    "rm": "lifecycle:RM",
    "rmi": "images:RMI",
    "run": "run:RUN",
    "save": "transfer:SAVE",
    "search": "pull:SEARCH",
    "start": "start:START",
    "stats": "stats:STATS",
    "stop": "lifecycle:STOP",
    "tag": "images:TAG",
    "top": "inspecting:TOP",
    "unpause": "lifecycle:UNPAUSE",
    "update": "update:UPDATE",
    "version": "version:VERSION",
    "wait": "lifecycle:WAIT",
}

_OF_CONTAINERS = (
    "attach",
    "commit",
    "cp",
    "create",
    "diff",
    "exec",
    "export",
    "kill",
    "logs",
    "pause",
    "port",
    "rename",
    "restart",
    "rm",
    "run",
    "start",
    "stats",
    "stop",
    "top",
    "unpause",
    "update",
    "wait",
)

#: A group's name to its summary and its commands.
GROUPS: dict[str, tuple[str, dict[str, str]]] = {
    "container": (
        "Manage containers",
        {
            **{name: COMMANDS[name] for name in _OF_CONTAINERS},
            "inspect": "inspect:CONTAINER_INSPECT",
            "list": COMMANDS["ps"],
            "ls": COMMANDS["ps"],
            "ps": COMMANDS["ps"],
            "prune": "prune:CONTAINER_PRUNE",
        },
    ),
    "builder": (
        "Manage builds",
        {
            "build": COMMANDS["build"],
            "prune": "build:BUILDER_PRUNE",
        },
    ),
    "context": (
        "Manage contexts: named addresses of daemons",
        {
            "create": "contextedit:CREATE",
            "export": "contextedit:EXPORT",
            "import": "contextedit:IMPORT",
            "inspect": "contexts:INSPECT",
            "list": "contexts:LS",
            "ls": "contexts:LS",
            "remove": "contextedit:RM",
            "rm": "contextedit:RM",
            "show": "contexts:SHOW",
            "update": "contextedit:UPDATE",
            "use": "contexts:USE",
        },
    ),
    "image": (
        "Manage images",
        {
            "build": COMMANDS["build"],
            "history": COMMANDS["history"],
            "import": COMMANDS["import"],
            "inspect": "inspect:IMAGE_INSPECT",
            "list": COMMANDS["images"],
            "load": COMMANDS["load"],
            "ls": COMMANDS["images"],
            "prune": "prune:IMAGE_PRUNE",
            "pull": COMMANDS["pull"],
            "push": COMMANDS["push"],
            "rm": COMMANDS["rmi"],
            "save": COMMANDS["save"],
            "tag": COMMANDS["tag"],
        },
    ),
    "network": (
        "Manage networks",
        {
            "connect": "network:CONNECT",
            "create": "network:CREATE",
            "disconnect": "network:DISCONNECT",
            "inspect": "inspect:NETWORK_INSPECT",
            "list": "network:LS",
            "ls": "network:LS",
            "prune": "prune:NETWORK_PRUNE",
            "rm": "network:RM",
        },
    ),
    "plugin": (
        "Write drivers of your own",
        {
            "new": "plugin:new",
        },
    ),
    "system": (
        "Manage Pannier",
        {
            "df": "df:DF",
            "dial-stdio": "dialstdio:DIAL_STDIO",
            "events": COMMANDS["events"],
            "info": COMMANDS["info"],
            "prune": "prune:SYSTEM_PRUNE",
        },
    ),
    "volume": (
        "Manage volumes",
        {
            "create": "volume:CREATE",
            "inspect": "inspect:VOLUME_INSPECT",
            "list": "volume:LS",
            "ls": "volume:LS",
            "prune": "prune:VOLUME_PRUNE",
            "rm": "volume:RM",
        },
    ),
}


def load(target: str) -> object:
    """Import a command: a declared one, or a click command of another author."""
    module_name, _, attribute = target.partition(":")
    # importlib.import_module would be imported for this alone.
    module = __import__(f"pannier.cli.commands.{module_name}", fromlist=[attribute])
    found: object = getattr(module, attribute)
    return found
