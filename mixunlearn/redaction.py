"""Hides the secrets of addresses: only the parts that are known to be harmless are shown.

An address is `scheme://user:password@host:port/path?name=value#place`. Everything before the last
`@` may be a secret, and so may each parameter. Shown are user names of databases and file servers,
because they help to find a mistake, and parameters with a name of the list below.
"""

import re
from urllib.parse import unquote

from mixunlearn.errors import InputError

HIDDEN = "***"
# In these addresses the user is a name. In others, such as http://TOKEN@host, it may be a secret.
NAMED = frozenset(
    (
        *("postgresql", "postgres", "mysql", "mariadb", "mssql", "oracle"),
        *("sftp", "ftp", "ssh", "hdfs", "viewfs", "wasbs", "abfs", "abfss"),
    )
)
HARMLESS = frozenset(
    (
        # of databases
        *("application_name", "cache", "charset", "client_encoding", "connect_timeout", "database"),
        *("dbname", "driver", "encrypt", "host", "immutable", "isolation_level", "mode", "nolock"),
        *(
            "options",
            "port",
            "service",
            "sslmode",
            "sslrootcert",
            "target_session_attrs",
            "timeout",
        ),
        *("trusted_connection", "trustservercertificate", "unix_socket", "uri", "user", "vfs"),
        # of folders
        *("allow_bucket_creation", "allow_bucket_deletion", "allow_delayed_open", "buffer_size"),
        *("default_block_size", "endpoint_override", "project_id", "region", "replication"),
        *("retry_limit_seconds", "scheme", "tls_ca_file_path"),
    )
)

_START = re.compile(r"(?P<quote>\\*[\"'`])?(?<![\w+.-])(?P<scheme>[a-zA-Z][\w+.-]*)://")
# Where an address without quotes ends: a quote that ends a longer text counts as well.
_END = re.compile(r"\s|[\"'`](?=[\s,:;)\]}>]|$)")
_AFTER = ".,;:!?)]}>'\"`"  # at the end of an address in a sentence
_PORT = re.compile(r"(\[[^\]]*\])?[^:]*(:\d*(\W|$)|$)")  # a host, with or without a port
_PIECE = re.compile(r"([?&;#])([^?&;#=]*)(=?)([^?&;#]*)")
# Outside of addresses, for example in the error message of a database.
_PAIR = re.compile(
    r"\b(\w*(?:password|passwd|pwd|secret) ?= ?)('[^']*'|\"[^\"]*\"|[^\s,;&'\"]+)", re.IGNORECASE
)


def redact(text: str) -> str:
    """Return text with all secrets of the addresses in it replaced by `***`."""
    shown, done = list[str](), 0
    for found in _START.finditer(text):
        if found.start("scheme") >= done:
            end = _end(text, found)
            shown += [
                _without_pairs(text[done : found.start("scheme")]),
                redact_address(text[found.start("scheme") : end]),
            ]
            done = end
    return "".join([*shown, _without_pairs(text[done:])])


def redact_address(address: str) -> str:
    """Return an address with its secrets replaced by `***`; spaces and quotes belong to it."""
    scheme, mark, rest = address.partition("://")
    if not mark:
        return _without_pairs(address)
    who, place = _split(scheme.lower(), rest)
    end = min((place.find(c) for c in "?#" if c in place), default=len(place))
    return f"{scheme}://{who}{place[:end]}{_PIECE.sub(_piece, place[end:])}"


def without_account(address: str | None) -> str | None:
    """Return a saved address without a hidden user or password; `None` stays `None`.

    Programs then take them from the environment, for example from `MLFLOW_TRACKING_PASSWORD` or
    `PGPASSWORD`. With `***` in their place, they would take that for the password.
    """
    if address is None:
        return None
    return address.replace(f":{HIDDEN}@", "@", 1).replace(f"://{HIDDEN}@", "://", 1)


def require_whole(key: str, address: str | None) -> None:
    """Check that no parameter of a saved address was hidden: no environment can give it.

    Args:
        key: the setting that holds it, for the error message.
        address: the address.

    Raises:
        InputError: one was hidden.
    """
    if HIDDEN in (address or ""):
        remedy = f"secrets are not saved; give the whole address with --set {key}=..."
        raise InputError(key, address, remedy)


def _end(text: str, found: re.Match[str]) -> int:
    """Return where the address that starts at a match ends."""
    stop = _limit(text, found.end())
    if quote := found["quote"]:
        closing = re.compile(rf"(?<!\\){re.escape(quote)}").search(text, found.end(), stop)
        if closing:
            return closing.start()
    space = _END.search(text, found.end(), stop)
    end = space.start() if space else stop
    begun = text[found.end() : end]
    if "@" not in begun and not _PORT.match(_host(begun)):
        # The beginning of a password with a space or a quote in it: look for its end.
        at = text.rfind("@", end, stop)
        if at >= 0:
            space = _END.search(text, at, stop)
            end = space.start() if space else stop
    return found.end() + len(text[found.end() : end].rstrip(_AFTER))


def _limit(text: str, start: int) -> int:
    """Return the end of the line, or where the next address starts."""
    line, following = text.find("\n", start), _START.search(text, start)
    end = len(text) if line < 0 else line
    return min(end, following.start()) if following else end


def _host(rest: str) -> str:
    return re.split(r"[/?#]", rest, maxsplit=1)[0]


def _split(scheme: str, rest: str) -> tuple[str, str]:
    """Return who, up to the `@` and hidden, and where; `rest` is all after the `//`."""
    host = _host(rest)
    strange = not _PORT.match(host)
    web = scheme in ("http", "https")
    # A password may contain a slash, and so may the path of a page contain an `@`.
    if "@" in host or ("@" in rest and (strange or (":" in host and not web))):
        info, _, place = rest.rpartition("@")
        user, colon, _ = info.partition(":")
        named = scheme.partition("+")[0] in NAMED
        return (f"{user}{colon and f':{HIDDEN}'}@" if named else f"{HIDDEN}@"), place
    if strange and not scheme.startswith("databricks"):
        name = host.partition(":")[0]
        return "", f"{name}:{HIDDEN}{rest[len(host) :]}"
    return "", rest


def _piece(found: re.Match[str]) -> str:
    """Return a parameter, or a place in a page, with a value that may be a secret hidden."""
    mark, name, equals, value = found.groups()
    if not equals:
        harmless = mark == "#" or not name
    else:
        # An address within an address, perhaps encoded.
        inside = unquote(value)
        harmless = name.lower() in HARMLESS and redact(inside) == inside
    if harmless:
        return found.group()
    return f"{mark}{name}={HIDDEN}" if equals else f"{mark}{HIDDEN}"


def _without_pairs(text: str) -> str:
    return _PAIR.sub(rf"\1{HIDDEN}", text)
