-- When each worker that has taken a run was last heard of, by the server's clock. A run without a row has
-- none: nobody took it, or whoever did has given it back.
create table worker (
    run_id   uuid        primary key references run_head on delete cascade,
    heard_at timestamptz not null default clock_timestamp()
) with (fillfactor = 50);

comment on column run_head.holder_began is
    'When the process that took the stream last began, as its host counts. A worker whose connection is lost has lost the lock with it: this tells whether it lives on.';
