//! The database that an orchestrator had before persist: two tables, and its own migrator's records.

/// Its tables, as its own migrator made them.
pub const TABLES: &str = "
CREATE TABLE jobs (request_id uuid NOT NULL PRIMARY KEY, repo_url text NOT NULL, commit_sha text NOT NULL,
  runs_on text NULL, state text NOT NULL, created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL);
CREATE TABLE vms (request_id uuid NOT NULL, domain_name text NOT NULL, overlay_path text NULL, seed_path text NULL,
  backend text NOT NULL, state text NOT NULL, created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL);";

/// Its migrator's records, with a row that must stay.
pub const RECORDS: &str = "
CREATE TABLE seaql_migrations (version varchar NOT NULL PRIMARY KEY, applied_at bigint NOT NULL);
INSERT INTO seaql_migrations VALUES ('m20240101_000001_create_tables', 1704067200);";

/// Rows: every state of both tables, blanks, a credential, and doubled VMs.
pub const ROWS: &str = "
INSERT INTO jobs VALUES
  ('00000000-0000-0000-0000-000000000001', 'https://example.org/a.git', 'abcd01', 'small', 'queued',
   '2025-01-01T00:00:01Z', '2025-01-01T00:00:01Z'),
  ('00000000-0000-0000-0000-000000000002', 'https://me:hunter2@example.org/b.git', 'ABCD02', '', 'running',
   '2025-01-01T00:00:02Z', '2025-01-01T01:00:02.123456Z'),
  ('00000000-0000-0000-0000-000000000003', '', '', NULL, 'succeeded', '2025-01-01T00:00:03Z', '2025-01-01T01:00:03Z'),
  ('00000000-0000-0000-0000-000000000004', 'https://example.org/d.git', 'abcd04', NULL, 'failed',
   '2025-01-01T00:00:04Z', '2025-01-01T01:00:04Z'),
  ('00000000-0000-0000-0000-000000000005', 'https://example.org/e.git', 'abcd05', NULL, 'cancelled',
   '2025-01-01T00:00:05Z', '2025-01-01T01:00:05Z'),
  ('00000000-0000-0000-0000-000000000006', 'https://example.org/f.git', 'abcd06', NULL, 'timed_out',
   '2025-01-01T00:00:06Z', '2025-01-01T01:00:06Z'),
  ('00000000-0000-0000-0000-000000000007', 'https://example.org/g.git', 'abcd07', NULL, 'lost',
   '2025-01-01T00:00:07Z', '2025-01-01T01:00:07Z');
INSERT INTO vms VALUES
  ('00000000-0000-0000-0000-000000000001', 'vm-1', NULL, NULL, 'libvirt', 'prepared',
   '2025-01-01T00:10:00Z', '2025-01-01T00:10:00Z'),
  ('00000000-0000-0000-0000-000000000002', 'vm-2', '/o', '/s', 'libvirt', 'running',
   '2025-01-01T00:10:00Z', '2025-01-01T00:20:00Z'),
  ('00000000-0000-0000-0000-000000000003', 'vm-3', '/o', '', '', 'stopped',
   '2025-01-01T00:10:00Z', '2025-01-01T00:20:00Z'),
  ('00000000-0000-0000-0000-000000000004', 'vm-4', NULL, NULL, 'bhyve', 'failed',
   '2025-01-01T00:10:00Z', '2025-01-01T00:20:00Z'),
  ('00000000-0000-0000-0000-000000000005', 'vm-5', '/second', NULL, 'bhyve', 'destroyed',
   '2025-01-01T00:30:00Z', '2025-01-01T00:40:00Z'),
  ('00000000-0000-0000-0000-000000000005', 'vm-5', '/first', NULL, 'libvirt', 'failed',
   '2025-01-01T00:10:00Z', '2025-01-01T00:20:00Z');";
