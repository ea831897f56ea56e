"""What ways of telling users apart have in common: their users, and what the server learns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from kvproxy.middleware.contract import Middleware
from kvproxy.middleware.header_values import HeaderError, header_name, header_value
from kvproxy.middleware.users import Users, UsersError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from kvproxy.middleware.contract import Request

T = TypeVar("T")


class CredentialCheck(Middleware, Generic[T]):
    """Lets users pass; a subclass says how they prove who they are."""

    __slots__ = ("_remove", "_user_header", "_users")

    title = "Auth"

    def __init__(
        self,
        parse: Callable[[str], tuple[str, T]],
        users: Sequence[str],
        users_file: str,
        *,
        remove_header: bool,
        header_field: str,
    ) -> None:
        """``parse`` gives name and secret of a line; ``remove_header``: the server is not shown the
        proof; ``header_field``: tells it the name of the user. Raises UsersError, HeaderError."""
        self._users = Users(parse, users, users_file)
        self._remove = remove_header
        self._user_header = header_name(header_field) if header_field else b""

    def sets(self) -> Iterable[bytes]:
        """Return the name of the header with the user's name, if there is one."""
        return (self._user_header,) if self._user_header else ()

    def _let_pass(self, request: Request, name: str) -> None:
        """Note who asks, for the server and the log."""
        request.user = name
        if self._remove:
            request.remove(b"authorization")
        if self._user_header:
            request.set(self._user_header, name.encode("utf-8", "surrogateescape"))


def check_name(name: str) -> None:
    """Raise `UsersError` for a name that no header could carry."""
    try:
        header_value(name.encode("utf-8", "surrogateescape").decode("latin-1"))
    except HeaderError:
        raise UsersError("the name holds a control character") from None
