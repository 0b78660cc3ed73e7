locals {
  database = var.create_firestore_database ? google_firestore_database.main[0].name : var.firestore_database

  # What no query filters or sorts by, and what would cost most to index: text, maps with a key for each message, times that only
  # grow (an index on those is a hot spot at 500 writes a second). `*` is every field of the collection.
  # https://docs.cloud.google.com/firestore/native/docs/query-data/index-overview#single-field-index-exemptions
  unindexed = {
    mailboxes = ["labels", "run", "request", "suspect", "unreached", "problem", "purge"]
    leases    = ["*"]
    receipts  = ["documents"]
    messages  = ["attachments", "body", "snippet", "syncedAt"]
    threads   = ["messages", "snippet"]
    deltas    = ["at", "changes"]
    pages     = ["*"]
    plan      = ["*"]
  }

  # What applications ask for that a single field does not answer.
  indexes = {
    messages_by_label  = { collection = "messages", where = "labelIds", array = true, by = "internalDate", order = "DESCENDING" }
    messages_by_sender = { collection = "messages", where = "headers.from", array = false, by = "internalDate", order = "DESCENDING" }
    messages_by_thread = { collection = "messages", where = "threadId", array = false, by = "internalDate", order = "ASCENDING" }
    threads_by_label   = { collection = "threads", where = "labelIds", array = true, by = "lastMessageAt", order = "DESCENDING" }
  }
}

# Mail is safe here: protected, never deleted by Terraform while it is, readable as of any minute of the last week.
resource "google_firestore_database" "main" {
  count = var.create_firestore_database ? 1 : 0

  name                              = var.firestore_database
  location_id                       = coalesce(var.firestore_location, var.region)
  type                              = "FIRESTORE_NATIVE"
  concurrency_mode                  = "PESSIMISTIC"
  app_engine_integration_mode       = "DISABLED"
  delete_protection_state           = var.delete_protection ? "DELETE_PROTECTION_ENABLED" : "DELETE_PROTECTION_DISABLED"
  deletion_policy                   = var.delete_protection ? "ABANDON" : "DELETE"
  point_in_time_recovery_enablement = var.point_in_time_recovery ? "POINT_IN_TIME_RECOVERY_ENABLED" : "POINT_IN_TIME_RECOVERY_DISABLED"

  dynamic "cmek_config" {
    for_each = var.firestore_kms_key[*]

    content {
      kms_key_name = cmek_config.value
    }
  }

  depends_on = [google_project_service.api]
}

resource "google_firestore_backup_schedule" "daily" {
  count = var.backup_retention_days > 0 ? 1 : 0

  database  = local.database
  retention = "${var.backup_retention_days * 86400}s"

  daily_recurrence {}

  depends_on = [google_project_service.api]
}

resource "google_firestore_index" "query" {
  for_each = local.indexes

  database   = local.database
  collection = each.value.collection

  fields {
    field_path   = each.value.where
    order        = each.value.array ? null : "ASCENDING"
    array_config = each.value.array ? "CONTAINS" : null
  }

  fields {
    field_path = each.value.by
    order      = each.value.order
  }

  # On a database that is full an index takes longer than the provider's own 20 minutes. An index that was given up on is not in
  # the state, and every later apply is refused because it exists.
  timeouts {
    create = "60m"
    delete = "60m"
  }

  depends_on = [google_project_service.api]
}

resource "google_firestore_field" "unindexed" {
  for_each = merge([
    for collection, fields in local.unindexed : { for field in fields : "${collection}.${field}" => { collection = collection, field = field } }
  ]...)

  database   = local.database
  collection = each.value.collection
  field      = each.value.field

  # Empty: no index at all.
  index_config {}

  # Taking the exemption away makes the index, of all that is there by then.
  timeouts {
    create = "60m"
    update = "60m"
    delete = "60m"
  }

  depends_on = [google_project_service.api]
}

# Firestore deletes a delta, and the receipt of a purged mailbox, when its expireAt has passed, usually within a day.
resource "google_firestore_field" "ttl" {
  for_each = toset(["deltas", "receipts"])

  database   = local.database
  collection = each.key
  field      = "expireAt"

  index_config {}
  ttl_config {}

  timeouts {
    create = "60m"
    update = "60m"
    delete = "60m"
  }

  depends_on = [google_project_service.api]
}

moved {
  from = google_firestore_field.deltas_ttl
  to   = google_firestore_field.ttl["deltas"]
}
