"""Names, addresses, patterns and paths of the configuration, and how each must look."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import BeforeValidator, SecretStr

from shadow.jsonpath import InvalidPath, JsonPath
from shadow.patterns import InvalidPattern, compiled
from shadow.settings.section import refused

ENV: Final = "env:"
NEVER_RECORDED: Final = frozenset({"authorization", "cookie", "set-cookie", "proxy-authorization", "x-api-key"})
"""Headers that carry credentials; no setting can bring them into a record."""

_ENV: Final = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
HOST: Final = re.compile(r"\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z]([0-9A-Za-z._-]*[0-9A-Za-z])?\.?")
TEXT_CHARACTERS_MAX: Final = 4096
UPSTREAMS_MAX: Final = 64
SLICE_NAME: Final = re.compile(r"[a-z0-9-]{1,64}")
GRADER_NAME: Final = re.compile(r"[a-z0-9_-]{1,64}")


def _matching(pattern: str, must: str) -> BeforeValidator:
    expression = re.compile(pattern)

    def read(value: Any) -> str:
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not expression.fullmatch(value):
            raise refused(must)
        return value

    return BeforeValidator(read)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= TEXT_CHARACTERS_MAX:
        raise refused(f"must be a text of 1 to {TEXT_CHARACTERS_MAX:,} characters; put it in quotes if it is a number")
    return value


def _pattern(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise refused("must be a regular expression (RE2)")
    try:
        compiled(value)
    except InvalidPattern as error:
        raise refused(str(error) if str(error).startswith("must") else f"which {error}") from None
    return value


def _json_path(value: Any) -> str:
    if not isinstance(value, str):
        raise refused("must be a JSON path such as $.metadata.answer")
    try:
        JsonPath(value)
    except InvalidPath as error:
        raise refused(str(error) if str(error).startswith("must") else f"which {error}") from None
    return value


def _plain_path(value: Any) -> str:
    path = _json_path(value)
    if not JsonPath(path).steps:
        raise refused("must be a plain JSON path such as $.model or $.messages[0].role")
    return path


def _expected(value: Any) -> str:
    if not isinstance(value, str) or not value.startswith("json:"):
        raise refused("must be json: and a path in the request, such as json:$.metadata.answer")
    _json_path(value.removeprefix("json:"))
    return value


def recorded_header(value: Any) -> str:
    """Read the name of a header that may stand in a record."""
    name = _header(value)
    if name in NEVER_RECORDED:
        raise refused("must be another header: this one carries credentials and is never recorded")
    return name


def _header(value: Any) -> str:
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise refused("must be the name of an HTTP header")
    return value.lower()


def _method(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Z]{1,20}", value):
        raise refused("must be an HTTP method in capitals, such as POST")
    return value


def _glob(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"/[\x21-\x7e]{0,1023}", value):
        raise refused("must be a path that begins with /, such as /v1/*")
    return value


def secret_from(value: Any) -> SecretStr:
    """Read a text that is never shown."""
    if isinstance(value, SecretStr):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value or any(ord(c) < 32 or ord(c) == 127 for c in value):
        raise refused("must be a text without control characters, or env: and the name of a variable")
    if value.startswith(ENV) and not _ENV.fullmatch(value):
        raise refused("must be env: and the name of an environment variable, such as env:CANDIDATE_KEY")
    return SecretStr(value)


def _upstreams(value: Any) -> tuple[str, ...]:
    urls = (value,) if isinstance(value, str) else value
    if not isinstance(urls, list | tuple) or not 0 < len(urls) <= UPSTREAMS_MAX:
        raise refused(f"must be a URL such as http://host:8000, or a list of 1 to {UPSTREAMS_MAX} of them")
    read = _url("http", "https", is_bare=True)
    found = tuple(read(url) for url in urls)
    if len({urlsplit(url).scheme for url in found}) > 1:
        raise refused("must be all http or all https: they are servers of one version")
    return found


def _file(value: Any) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise refused("must be the path of a PEM file")
    return value


def port_of(text: str) -> int | None:
    """A port number, 0 included; None where it is none."""
    return int(text) if re.fullmatch(r"[0-9]{1,5}", text) and int(text) < 65536 else None


def address_of(text: str) -> tuple[str, int] | None:
    """Host and port of `host:port`; None where it is none."""
    host, colon, port = text.rpartition(":")
    number = port_of(port)
    if not colon or number is None or not HOST.fullmatch(host):
        return None
    return host.strip("[]"), number


def _address(value: Any) -> str:
    if not isinstance(value, str) or address_of(value) is None:
        raise refused("must be host:port, such as 0.0.0.0:8080")
    return value


def url_problem(value: Any, schemes: tuple[str, ...]) -> str | None:
    """What is wrong with a URL; None where nothing is."""
    like = f"must be a URL such as {schemes[0]}://host:8000"
    if not isinstance(value, str) or any(ord(c) <= 32 or ord(c) == 127 for c in value):
        return like
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        return like
    if parts.scheme not in schemes or not parts.hostname or not HOST.fullmatch(_host_of(parts.netloc)):
        return like
    if parts.port == 0:
        return "must be a URL with a port from 1 to 65535"
    if "@" in parts.netloc or parts.query or parts.fragment:
        return "must be a URL without user, query and fragment; credentials belong into headers"
    return None


def _host_of(netloc: str) -> str:
    host = netloc.rpartition("@")[2]
    return re.sub(r":[0-9]*$", "", host)


def _url(*schemes: str, is_bare: bool = False) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        problem = url_problem(value, schemes)
        if problem is not None:
            raise refused(problem)
        if is_bare and urlsplit(value).path not in ("", "/"):
            raise refused("must be a URL without a path: requests keep their own")
        return str(value).rstrip("/")

    return read


VersionName = Annotated[
    str, _matching(SLICE_NAME.pattern, "must be a name of 1 to 64 characters out of a-z, 0-9 and -")
]
SliceName = VersionName
GraderName = Annotated[
    str, _matching(GRADER_NAME.pattern, "must be a name of 1 to 64 characters out of a-z, 0-9, _ and -")
]
Tag = Annotated[str, _matching(r"[A-Za-z][A-Za-z0-9_-]{0,63}", "must be the name of a tag, such as answer")]
Package = Annotated[str, _matching(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?", "must be the name of a package")]
DottedName = Annotated[
    str,
    _matching(
        r"[A-Za-z_][A-Za-z0-9_]{0,63}(\.[A-Za-z_][A-Za-z0-9_]{0,63}){0,7}", "must be a name such as client.lookup"
    ),
]
PythonName = Annotated[
    str,
    _matching(r"[A-Za-z_][A-Za-z0-9_.]{0,200}:[A-Za-z_][A-Za-z0-9_.]{0,100}", "must be module:function"),
]
TopicName = Annotated[
    str,
    _matching(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}", "must be a topic's name out of letters, digits, ., _ and -"),
]
Text = Annotated[str, BeforeValidator(_text)]
Pattern = Annotated[str, BeforeValidator(_pattern)]
JsonPathText = Annotated[str, BeforeValidator(_json_path)]
PlainPath = Annotated[str, BeforeValidator(_plain_path)]
Expected = Annotated[str, BeforeValidator(_expected)]
LabelName = Annotated[
    str, _matching(r"[a-zA-Z_][a-zA-Z0-9_]{0,127}", "must be the name of a label: letters, digits and _")
]
HeaderName = Annotated[str, BeforeValidator(_header)]
RecordedHeader = Annotated[str, BeforeValidator(recorded_header)]
Method = Annotated[str, BeforeValidator(_method)]
PathGlob = Annotated[str, BeforeValidator(_glob)]
Secret = Annotated[SecretStr, BeforeValidator(secret_from)]
Address = Annotated[str, BeforeValidator(_address)]
HttpUrl = Annotated[str, BeforeValidator(_url("http", "https"))]
UpstreamUrls = Annotated[tuple[str, ...], BeforeValidator(_upstreams)]
PemFile = Annotated[str, BeforeValidator(_file)]


def resolved(secret: SecretStr, environment: dict[str, str]) -> SecretStr:
    """The secret that `env:NAME` stands for; the same where it is no reference or the variable is not set."""
    text = secret.get_secret_value()
    if not text.startswith(ENV):
        return secret
    found = environment.get(text.removeprefix(ENV))
    return secret if found is None else SecretStr(found.strip())
