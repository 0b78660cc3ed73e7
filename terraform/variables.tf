# Where

variable "project" {
  type        = string
  description = "Id of the project to deploy into. Gmail publishes only to topics of the project that its caller belongs to, so everything is in one."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "project must be a project id such as my-project-123: 6 to 30 lower-case letters, digits and hyphens."
  }
}

variable "region" {
  type        = string
  description = "Region of the functions, of their images and, unless said otherwise, of everything else. A deployment stays in its region."

  validation {
    condition     = can(regex("^[a-z]+(-[a-z]+)+[0-9]+$", var.region))
    error_message = "region must be a region such as europe-west1, not a zone or a multi-region."
  }
}

variable "firestore_location" {
  type        = string
  description = "Location of the database that is created: a region, nam5 or eur3. It can never be changed. Null is the region."
  default     = null

  validation {
    condition     = var.firestore_location == null || can(regex("^([a-z]+(-[a-z]+)+[0-9]+|nam5|eur3)$", var.firestore_location))
    error_message = "firestore_location must be a region such as europe-west1, or nam5 or eur3."
  }

  validation {
    condition     = var.firestore_location == null || var.create_firestore_database
    error_message = "firestore_location is for a database that is created: an existing one has its own."
  }
}

variable "storage_location" {
  type        = string
  description = "Location of the buckets: a region, a dual-region or a multi-region. Null is the region."
  default     = null

  validation {
    condition     = var.storage_location == null || can(regex("^[A-Za-z0-9-]{2,30}$", var.storage_location))
    error_message = "storage_location must be a location of Cloud Storage such as europe-west1, EUR4 or EU."
  }
}

variable "scheduler_region" {
  type        = string
  description = "Region of the Cloud Scheduler jobs, where the region itself has no Cloud Scheduler. Null is the region."
  default     = null

  validation {
    condition     = var.scheduler_region == null || can(regex("^[a-z]+(-[a-z]+)+[0-9]+$", var.scheduler_region))
    error_message = "scheduler_region must be a region such as europe-west1."
  }
}

# Who

variable "admins" {
  type        = set(string)
  description = "Groups and service accounts that may call manage_mailboxes and trigger_sync, such as group:mail-admins@example.com. Nobody else can."
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for member in var.admins : can(regex("^(group|serviceAccount):[^@\\s]+@[^@\\s]+$", member))])
    error_message = "admins must be groups or service accounts: group:name@example.com or serviceAccount:name@project.iam.gserviceaccount.com. A person comes in through a group."
  }
}

variable "readers" {
  type        = set(string)
  description = "Groups and service accounts of applications: they may read the mirror in Firestore and what is in the bucket, and call read_mailboxes, which also gives them attachments from Gmail. They change nothing."
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for member in var.readers : can(regex("^(group|serviceAccount):[^@\\s]+@[^@\\s]+$", member))])
    error_message = "readers must be groups or service accounts: group:name@example.com or serviceAccount:name@project.iam.gserviceaccount.com. A person comes in through a group."
  }
}

# Gmail

variable "gmail_auth" {
  type        = string
  description = "How mailboxes are opened: delegation (a Workspace administrator grants the delegate service account, no keys) or oauth (each user consents)."
  default     = "delegation"
  nullable    = false

  validation {
    condition     = contains(["delegation", "oauth"], var.gmail_auth)
    error_message = "gmail_auth must be delegation or oauth."
  }
}

variable "gmail_content" {
  type        = string
  description = "What is mirrored of messages: full, or metadata, which asks Gmail for no body and no attachment, so that the scope gmail.metadata is enough."
  default     = "full"
  nullable    = false

  validation {
    condition     = contains(["full", "metadata"], var.gmail_content)
    error_message = "gmail_content must be full or metadata."
  }
}

variable "gmail_scopes" {
  type        = list(string)
  description = "OAuth scopes that mailboxes are opened with; the administrator or the users grant exactly these."
  default     = ["https://www.googleapis.com/auth/gmail.readonly"]
  nullable    = false

  validation {
    condition = length(var.gmail_scopes) > 0 && alltrue([
      for scope in var.gmail_scopes :
      can(regex("^https://(mail\\.google\\.com/|www\\.googleapis\\.com/auth/gmail\\.(readonly|modify|metadata))$", scope))
    ])
    error_message = "gmail_scopes must let Mailmirror read messages: https://www.googleapis.com/auth/gmail.readonly, .../auth/gmail.modify or https://mail.google.com/, with gmail_content = \"metadata\" also .../auth/gmail.metadata."
  }

  validation {
    condition     = var.gmail_content == "metadata" || !contains(var.gmail_scopes, "https://www.googleapis.com/auth/gmail.metadata")
    error_message = "gmail_scopes must be without gmail.metadata unless gmail_content is \"metadata\": with it Gmail gives nobody a whole message, whatever else is granted."
  }
}

variable "gmail_units_per_minute" {
  type        = number
  description = "Gmail quota of one user in this project, in units per minute, as the console shows it."
  default     = 6000
  nullable    = false

  validation {
    condition     = var.gmail_units_per_minute >= 500 && var.gmail_units_per_minute <= 999999999 && floor(var.gmail_units_per_minute) == var.gmail_units_per_minute
    error_message = "gmail_units_per_minute must be a whole number from 500 to 999999999."
  }
}

variable "gmail_prices" {
  type        = string
  description = "Which price table Gmail applies to this project: 2026, or legacy for projects that still have the older one."
  default     = "2026"
  nullable    = false

  validation {
    condition     = contains(["2026", "legacy"], var.gmail_prices)
    error_message = "gmail_prices must be 2026 or legacy."
  }
}

variable "gmail_units_per_day" {
  type        = number
  description = "The most Gmail quota units that runs may spend on one mailbox from midnight to midnight UTC. They go on the next day; live mail is never held up. Null is no limit."
  default     = null

  validation {
    condition     = alltrue([for units in var.gmail_units_per_day[*] : units >= 10000 && units <= 999999999999 && floor(units) == units])
    error_message = "gmail_units_per_day must be a whole number from 10000 to 999999999999, or null."
  }
}

variable "recovery" {
  type        = string
  description = "What a run does after Gmail's history has expired: thread-history fetches only what is missing or changed since, full fetches everything again."
  default     = "thread-history"
  nullable    = false

  validation {
    condition     = contains(["thread-history", "full"], var.recovery)
    error_message = "recovery must be thread-history or full."
  }
}

variable "public_consent" {
  type        = bool
  description = "With oauth: whether users consent in their own browsers. That makes one function public, mailmirror-oauth-callback: it takes in what users answer to the links that administrators had made, and does nothing else."
  default     = false
  nullable    = false

  validation {
    condition     = !var.public_consent || var.gmail_auth == "oauth"
    error_message = "public_consent is for gmail_auth = \"oauth\": with delegation nobody consents."
  }
}

variable "directory_admin" {
  type        = string
  description = "With delegation: address of a Workspace administrator as whom the members of groups and organisational units are listed, to connect them all. Empty: nobody is listed."
  default     = ""
  nullable    = false

  validation {
    condition     = var.directory_admin == "" || can(regex("^[^@\\s]+@[^@\\s]+$", var.directory_admin))
    error_message = "directory_admin must be an e-mail address such as admin@example.com, or empty."
  }

  validation {
    condition     = var.directory_admin == "" || var.gmail_auth == "delegation"
    error_message = "directory_admin is for gmail_auth = \"delegation\": consents are asked of one user at a time."
  }
}

variable "watch_label_ids" {
  type        = list(string)
  description = "Narrow Gmail's notifications to these labels. Empty announces everything; the sweep finds what is not announced."
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for label in var.watch_label_ids : can(regex("^[^\\s,]+$", label))])
    error_message = "watch_label_ids must be label ids such as INBOX or Label_12, without spaces and commas."
  }
}

variable "watch_label_filter_behavior" {
  type        = string
  description = "Whether watch_label_ids are the labels to include or to exclude."
  default     = "include"
  nullable    = false

  validation {
    condition     = contains(["include", "exclude"], var.watch_label_filter_behavior)
    error_message = "watch_label_filter_behavior must be include or exclude."
  }
}

# How it runs

variable "sweep_quiet_minutes" {
  type        = number
  description = "After how many minutes without news a mailbox is looked at all the same."
  default     = 15
  nullable    = false

  validation {
    condition     = var.sweep_quiet_minutes > 0 && var.sweep_quiet_minutes <= 1440
    error_message = "sweep_quiet_minutes must be above 0 and at most 1440, a day."
  }
}

variable "sweep_schedule" {
  type        = string
  description = "When sweep_mailboxes is called, in cron format, UTC."
  default     = "*/5 * * * *"
  nullable    = false

  validation {
    condition     = can(regex("^\\S+( \\S+){4}$", var.sweep_schedule))
    error_message = "sweep_schedule must have the five fields of cron, such as */5 * * * *."
  }
}

variable "renew_schedule" {
  type        = string
  description = "When renew_watches is called, in cron format, UTC. A watch lapses within 7 days; daily is what Google recommends."
  default     = "17 3 * * *"
  nullable    = false

  validation {
    condition     = can(regex("^\\S+( \\S+){4}$", var.renew_schedule))
    error_message = "renew_schedule must have the five fields of cron, such as 17 3 * * *."
  }
}

variable "delta_topic" {
  type        = bool
  description = "Whether each change of a mirror is also published to a topic, mailbox-deltas, that applications subscribe to."
  default     = false
  nullable    = false
}

variable "max_instances" {
  type        = number
  description = "The most instances each of sync_history, run_work and read_mailboxes may have at a time."
  default     = 20
  nullable    = false

  validation {
    condition     = var.max_instances >= 1 && var.max_instances <= 1000 && floor(var.max_instances) == var.max_instances
    error_message = "max_instances must be a whole number from 1 to 1000."
  }
}

variable "log_level" {
  type        = string
  description = "The least severe events that are logged: DEBUG or INFO. The metrics that alerts rely on are made from events of level INFO."
  default     = "INFO"
  nullable    = false

  validation {
    condition     = contains(["DEBUG", "INFO"], var.log_level)
    error_message = "log_level must be DEBUG or INFO: above INFO the events are missing from which alerts are made."
  }
}

variable "vpc" {
  type = object({
    connector = string
    egress    = optional(string, "PRIVATE_RANGES_ONLY")
  })
  description = "Serverless VPC Access connector (full name, in the region) that outgoing traffic takes, and which of it: PRIVATE_RANGES_ONLY or ALL_TRAFFIC. Null is none."
  default     = null

  validation {
    condition = alltrue([
      for vpc in var.vpc[*] :
      can(regex("^projects/[^/]+/locations/[^/]+/connectors/[^/]+$", vpc.connector)) &&
      contains(["PRIVATE_RANGES_ONLY", "ALL_TRAFFIC"], vpc.egress)
    ])
    error_message = "vpc needs a connector such as projects/my-project/locations/europe-west1/connectors/my-connector and egress PRIVATE_RANGES_ONLY or ALL_TRAFFIC."
  }
}

# What is kept

variable "create_firestore_database" {
  type        = bool
  description = "Whether the database is created. False takes an existing one in Native mode; its protection is then its owner's business."
  default     = true
  nullable    = false
}

variable "firestore_database" {
  type        = string
  description = "Name of the Firestore database, created or existing."
  default     = "(default)"
  nullable    = false

  validation {
    condition     = can(regex("^(\\(default\\)|[a-z][a-z0-9-]{2,61}[a-z0-9])$", var.firestore_database))
    error_message = "firestore_database must be (default) or 4 to 63 lower-case letters, digits and hyphens."
  }
}

variable "point_in_time_recovery" {
  type        = bool
  description = "Whether the created database can be read as of any minute of the last seven days. Costs storage."
  default     = true
  nullable    = false
}

variable "backup_retention_days" {
  type        = number
  description = "For how many days the daily backups of the database are kept; 0 makes none."
  default     = 7
  nullable    = false

  validation {
    condition     = var.backup_retention_days >= 0 && var.backup_retention_days <= 98 && floor(var.backup_retention_days) == var.backup_retention_days
    error_message = "backup_retention_days must be a whole number from 0 to 98: Firestore keeps backups for at most 14 weeks."
  }
}

variable "body_bucket" {
  type        = string
  description = "Name of an existing bucket of the project, with uniform access, for bodies over 200 kB and for attachments that are kept. Null creates one."
  default     = null

  validation {
    condition     = var.body_bucket == null || can(regex("^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$", var.body_bucket))
    error_message = "body_bucket must be the name of a bucket, without gs://."
  }
}

variable "attachments" {
  type        = string
  description = "Whether the bytes of attachments are kept in the bucket: store, once per content, or none. Either way read_mailboxes gives them to applications: from the bucket, or from Gmail as long as Gmail has them."
  default     = "none"
  nullable    = false

  validation {
    condition     = contains(["none", "store"], var.attachments)
    error_message = "attachments must be none or store."
  }

  validation {
    condition     = var.attachments == "none" || var.gmail_content == "full"
    error_message = "attachments must be none with gmail_content = \"metadata\", which leaves attachments out."
  }
}

variable "delete_protection" {
  type        = bool
  description = "Whether mail is safe from `terraform destroy`: the database refuses to be deleted, and a bucket that holds bodies or attachments too."
  default     = true
  nullable    = false
}

variable "kms_key" {
  type        = string
  description = "Cloud KMS key (full name, in the region, where storage_location has to be too) for topics, buckets, images, functions and the OAuth client. Null is Google's own encryption."
  default     = null

  validation {
    condition     = var.kms_key == null || can(regex("^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$", var.kms_key))
    error_message = "kms_key must be a full name such as projects/my-project/locations/europe-west1/keyRings/my-ring/cryptoKeys/my-key."
  }
}

variable "firestore_kms_key" {
  type        = string
  description = "Cloud KMS key (full name) for the created database, in its location: of nam5 in us, of eur3 in europe. It can never be changed."
  default     = null

  validation {
    condition     = var.firestore_kms_key == null || can(regex("^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$", var.firestore_kms_key))
    error_message = "firestore_kms_key must be a full name such as projects/my-project/locations/europe/keyRings/my-ring/cryptoKeys/my-key."
  }

  validation {
    condition     = var.firestore_kms_key == null || var.create_firestore_database
    error_message = "firestore_kms_key is for a database that is created: an existing one has its own, or none, for ever."
  }
}

# How it is looked after

variable "notification_channels" {
  type        = list(string)
  description = "Full names of the Cloud Monitoring notification channels that alerts are sent to. Without any, incidents are only seen in the console."
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for channel in var.notification_channels : can(regex("^projects/[^/]+/notificationChannels/[0-9]+$", channel))])
    error_message = "notification_channels must be full names such as projects/my-project/notificationChannels/1234567890."
  }
}

variable "labels" {
  type        = map(string)
  description = "Labels for everything that can have them, on top of app = mailmirror."
  default     = {}
  nullable    = false

  validation {
    condition = alltrue([
      for name, value in var.labels :
      can(regex("^[a-z][a-z0-9_-]{0,62}$", name)) && can(regex("^[a-z0-9_-]{0,63}$", value)) && name != "app"
    ])
    error_message = "labels must be lower-case letters, digits, hyphens and underscores, at most 63; app is taken."
  }
}

variable "grant_token_creator" {
  type        = bool
  description = "Whether Pub/Sub's service agent is let make tokens for the push account. Needed only where that agent was made on or before 8 April 2021."
  default     = false
  nullable    = false
}
