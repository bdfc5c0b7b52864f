"""What counts as the database being away: training goes on meanwhile, and the write is tried again."""

from sqlalchemy.exc import InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

# How long one may try again is bounded elsewhere: by the lease, which the same outage does not renew.
# InternalError is what psycopg makes of a transaction that Postgres ended because we stood still in it.
DATABASE_OUTAGE = (OperationalError, InterfaceError, InternalError, PoolTimeoutError)
