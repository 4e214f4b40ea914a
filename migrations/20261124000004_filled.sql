-- Whether the rows of a reader have ever come as far as the log: until then nobody is answered from them.
ALTER TABLE checkpoints ADD COLUMN filled boolean NOT NULL DEFAULT false;
ALTER TABLE rebuild.checkpoints ADD COLUMN filled boolean NOT NULL DEFAULT false;
ALTER TABLE previous.checkpoints ADD COLUMN filled boolean NOT NULL DEFAULT false;
UPDATE checkpoints SET filled = true;
