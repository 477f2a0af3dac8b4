-- The order in which runs began. Clocks of several machines, or one that was set back, do not give it.
alter table run_head add column number bigint not null generated always as identity;
