PRAGMA application_id = 1417112686;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE towline_counters (
	kind INTEGER NOT NULL, 
	shard INTEGER NOT NULL, 
	scheduled BIGINT DEFAULT '0' NOT NULL, 
	ready BIGINT DEFAULT '0' NOT NULL, 
	leased BIGINT DEFAULT '0' NOT NULL, 
	dead BIGINT DEFAULT '0' NOT NULL, 
	pushed BIGINT DEFAULT '0' NOT NULL, 
	started BIGINT DEFAULT '0' NOT NULL, 
	completed BIGINT DEFAULT '0' NOT NULL, 
	failed BIGINT DEFAULT '0' NOT NULL, 
	retried BIGINT DEFAULT '0' NOT NULL, 
	released BIGINT DEFAULT '0' NOT NULL, 
	dead_lettered BIGINT DEFAULT '0' NOT NULL, 
	lease_expired BIGINT DEFAULT '0' NOT NULL, 
	cancelled BIGINT DEFAULT '0' NOT NULL, 
	requeued BIGINT DEFAULT '0' NOT NULL, 
	PRIMARY KEY (kind, shard)
)
 WITHOUT ROWID

;
INSERT INTO "towline_counters" VALUES(1,0,1,3,1,1,7,3,1,1,0,0,1,0,0,0);
INSERT INTO "towline_counters" VALUES(2,0,0,0,0,0,1,1,1,0,0,0,0,0,0,0);
CREATE TABLE towline_envelopes (
	seq INTEGER NOT NULL, 
	body BLOB NOT NULL, 
	PRIMARY KEY (seq)
);
INSERT INTO "towline_envelopes" VALUES(1,X'7061796C6F6164');
INSERT INTO "towline_envelopes" VALUES(2,X'7061796C6F6164');
INSERT INTO "towline_envelopes" VALUES(4,X'7061796C6F6164');
INSERT INTO "towline_envelopes" VALUES(5,X'7061796C6F6164');
INSERT INTO "towline_envelopes" VALUES(6,X'7061796C6F6164');
INSERT INTO "towline_envelopes" VALUES(7,X'7061796C6F6164');
INSERT INTO "towline_envelopes" VALUES(8,X'7061796C6F6164');
CREATE TABLE towline_jobs (
	seq INTEGER NOT NULL, 
	id VARCHAR(36) NOT NULL, 
	queue INTEGER NOT NULL, 
	kind INTEGER NOT NULL, 
	priority INTEGER NOT NULL, 
	state SMALLINT NOT NULL, 
	position BIGINT NOT NULL, 
	attempt INTEGER NOT NULL, 
	releases INTEGER NOT NULL, 
	enqueued_at BIGINT NOT NULL, 
	available_at BIGINT NOT NULL, 
	expires_at BIGINT, 
	retention BIGINT NOT NULL, 
	unique_key VARCHAR(256), 
	retry TEXT, 
	noted SMALLINT NOT NULL, 
	started_at BIGINT, 
	lease_grant VARCHAR(64), 
	lease_until BIGINT, 
	lease_length BIGINT, 
	worker_id VARCHAR(256), 
	request_id VARCHAR(260), 
	finished_at BIGINT, 
	dead_reason SMALLINT, 
	keep_until BIGINT, 
	result BLOB, 
	PRIMARY KEY (seq)
);
INSERT INTO "towline_jobs" VALUES(1,'job-0',1,1,0,2,1,0,0,1700000000000000,1700000000000000,NULL,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "towline_jobs" VALUES(2,'job-1',1,1,1,3,2,1,0,1700000000000000,1700000000000000,NULL,0,NULL,NULL,0,1700000000000000,'grant',1700000030000000,30000000,'w','r',NULL,NULL,NULL,NULL);
INSERT INTO "towline_jobs" VALUES(4,'job-3',1,1,0,2,4,0,0,1700000000000000,1700000000000000,NULL,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "towline_jobs" VALUES(5,'job-4',1,1,1,2,5,0,0,1700000000000000,1700000000000000,NULL,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "towline_jobs" VALUES(6,'job-5',1,1,2,5,9,1,0,1700000000000000,1700000000000000,NULL,0,NULL,NULL,1,1700000000000000,NULL,NULL,30000000,NULL,NULL,1700000000000000,1,NULL,NULL);
INSERT INTO "towline_jobs" VALUES(7,'later',1,1,0,1,7,0,0,1700000000000000,1700003600000000,NULL,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "towline_jobs" VALUES(8,'report',2,2,0,4,8,1,0,1700000000000000,1700000000000000,NULL,3600000000,'one',NULL,0,1700000000000000,NULL,NULL,30000000,NULL,NULL,1700000000000000,NULL,1700003600000000,X'6B657074');
CREATE TABLE towline_kinds (
	id INTEGER NOT NULL, 
	queue INTEGER NOT NULL, 
	type VARCHAR(128) NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (queue, type)
);
INSERT INTO "towline_kinds" VALUES(1,1,'T');
INSERT INTO "towline_kinds" VALUES(2,2,'T');
CREATE TABLE towline_meta (
	application VARCHAR(16) NOT NULL, 
	schema_version INTEGER NOT NULL, 
	clock BIGINT NOT NULL, 
	sequence BIGINT NOT NULL, 
	PRIMARY KEY (application)
);
INSERT INTO "towline_meta" VALUES('towline',1,1700000000000000,9);
CREATE TABLE towline_notes (
	seq INTEGER NOT NULL, 
	failure_type TEXT, 
	failure_message TEXT, 
	failure_trace TEXT, 
	failure_at BIGINT, 
	fraction FLOAT, 
	message TEXT, 
	checkpoint BLOB, 
	PRIMARY KEY (seq)
);
INSERT INTO "towline_notes" VALUES(6,'ValueError','no','trace',1700000000000000,NULL,NULL,NULL);
CREATE TABLE towline_queues (
	id INTEGER NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	paused SMALLINT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (name)
);
INSERT INTO "towline_queues" VALUES(1,'emails',0);
INSERT INTO "towline_queues" VALUES(2,'reports',0);
CREATE TABLE towline_settled (
	job_id VARCHAR(36) NOT NULL, 
	lease_grant VARCHAR(64) NOT NULL, 
	settlement SMALLINT, 
	state SMALLINT, 
	queue INTEGER NOT NULL, 
	finished_at BIGINT, 
	remember_until BIGINT NOT NULL, 
	result BLOB, 
	PRIMARY KEY (job_id, lease_grant)
)
 WITHOUT ROWID

;
INSERT INTO "towline_settled" VALUES('job-2','grant',1,4,1,1700000000000000,1700003600000000,X'646F6E65');
INSERT INTO "towline_settled" VALUES('job-5','grant',4,NULL,1,NULL,1700003600000000,NULL);
INSERT INTO "towline_settled" VALUES('report','grant-2',1,4,2,1700000000000000,1700003600000000,X'6B657074');
CREATE TABLE towline_unique_keys (
	unique_key VARCHAR(256) NOT NULL, 
	queue INTEGER NOT NULL, 
	job_id VARCHAR(36) NOT NULL, 
	held_until BIGINT, 
	PRIMARY KEY (unique_key, queue)
)
 WITHOUT ROWID

;
CREATE INDEX towline_jobs_due ON towline_jobs (available_at, position) WHERE state = 1;
CREATE INDEX towline_jobs_scheduled ON towline_jobs (queue) WHERE state = 1;
CREATE INDEX towline_jobs_kept ON towline_jobs (keep_until) WHERE keep_until IS NOT NULL;
CREATE INDEX towline_jobs_expiry ON towline_jobs (expires_at) WHERE expires_at IS NOT NULL AND attempt = 0 AND state <= 2;
CREATE UNIQUE INDEX towline_jobs_id ON towline_jobs (id);
CREATE INDEX towline_jobs_deadline ON towline_jobs (lease_until) WHERE state = 3;
CREATE INDEX towline_jobs_ready ON towline_jobs (queue, priority DESC, position) WHERE state = 2;
CREATE INDEX towline_jobs_dead ON towline_jobs (finished_at, position, kind, dead_reason) WHERE state = 5;
CREATE INDEX towline_jobs_request ON towline_jobs (request_id) WHERE request_id IS NOT NULL;
CREATE INDEX towline_settled_until ON towline_settled (remember_until);
CREATE INDEX towline_unique_keys_until ON towline_unique_keys (held_until) WHERE held_until IS NOT NULL;
COMMIT;
