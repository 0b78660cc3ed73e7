locals {
  database = var.create_firestore_database ? google_firestore_database.main[0].name : var.firestore_database

  # What no query filters or sorts by, and what would cost most to index: text, lists of maps and maps with a key for each message, times
  # that only grow (an index on those is a hot spot at 500 writes a second). `*` is every field of the collection.
  # https://docs.cloud.google.com/firestore/native/docs/query-data/index-overview#single-field-index-exemptions
  unindexed = {
    mailboxes = ["labels", "run", "request", "suspect", "unreached", "problem", "purge"]
    leases    = ["*"]
    receipts  = ["documents"]
    messages  = ["attachments", "body", "headers.bcc", "headers.cc", "headers.replyTo", "headers.to", "snippet", "syncedAt", "truncated"]
    threads   = ["messageIds", "messages", "participants", "snippet"]
    deltas    = ["at", "changes"]
    pages     = ["*"]
    plan      = ["*"]
  }

  # What applications ask for that a single field does not answer (README's queries, read_mailboxes): the fields that hold a value, then
  # the one that sorts. An index is read in one direction, so a thread has two, and ends with the document's name in that direction.
  # A document may have 40,000 index entries, an array one for each value in each index, and Gmail 10,000 labels: so few hold arrays.
  # Recipients are 101 at the most.
  indexes = {
    messages_by_label         = { collection = "messages", fields = [["labelIds", "CONTAINS"], ["internalDate", "DESCENDING"]] }
    messages_by_recipient     = { collection = "messages", fields = [["recipients", "CONTAINS"], ["internalDate", "DESCENDING"]] }
    messages_by_sender        = { collection = "messages", fields = [["headers.from.address", "ASCENDING"], ["internalDate", "DESCENDING"]] }
    messages_by_thread        = { collection = "messages", fields = [["threadId", "ASCENDING"], ["internalDate", "ASCENDING"]] }
    messages_by_thread_newest = { collection = "messages", fields = [["threadId", "ASCENDING"], ["internalDate", "DESCENDING"]] }
    threads_by_label          = { collection = "threads", fields = [["labelIds", "CONTAINS"], ["lastMessageAt", "DESCENDING"]] }
    threads_starred           = { collection = "threads", fields = [["starred", "ASCENDING"], ["lastMessageAt", "DESCENDING"]] }
    threads_unread_by_label   = { collection = "threads", fields = [["labelIds", "CONTAINS"], ["unread", "ASCENDING"], ["lastMessageAt", "DESCENDING"]] }
    threads_with_attachments  = { collection = "threads", fields = [["hasAttachments", "ASCENDING"], ["lastMessageAt", "DESCENDING"]] }
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

  dynamic "fields" {
    for_each = each.value.fields

    content {
      field_path   = fields.value[0]
      order        = fields.value[1] == "CONTAINS" ? null : fields.value[1]
      array_config = fields.value[1] == "CONTAINS" ? "CONTAINS" : null
    }
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
