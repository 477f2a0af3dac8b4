-- When the process that took a stream last began, as its host counts; null once it has given the stream back.
-- A worker whose connection is lost has lost the lock with it: this tells whether it lives on.
alter table run_head add column holder_began bigint;
