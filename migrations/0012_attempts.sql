-- The event that a checkpoint was begun by: the run is as it was there.
alter table checkpoint add column begun_seq bigint not null default 0;
alter table checkpoint alter column begun_seq drop default;

-- One row per rollback: what came between the begin of its checkpoint and its own event is left behind.
create table rollback (
    run_id         uuid    not null references run,
    seq            bigint  not null,
    -- The attempt that begins.
    attempt        bigint  not null,
    step           bigint  not null,
    to_step        bigint  not null,
    -- The checkpoint: the event that it was saved by, and the one that it was begun by.
    checkpoint_seq bigint  not null,
    begun_seq      bigint  not null,
    folder         text    not null,
    skipped_data   boolean not null,
    reason         text    not null,
    issued_by      text    not null,
    primary key (run_id, seq)
);
