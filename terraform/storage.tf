# What is deployed. Objects are named by their content; the functions service keeps a copy of its own.
resource "google_storage_bucket" "source" {
  # checkov:skip=CKV_GCP_62:It holds the code alone; audit logs, which Google prefers to usage logs, are the project's choice.
  # checkov:skip=CKV_GCP_78:An object is named by its content and never overwritten, so it has no older version.

  name                        = "${var.project}-mailmirror-source"
  location                    = coalesce(var.storage_location, var.region)
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = true
  labels                      = local.labels

  dynamic "encryption" {
    for_each = var.kms_key[*]

    content {
      default_kms_key_name = encryption.value
    }
  }

  depends_on = [google_project_service.api]
}

# Bodies over 200 kB and attachments that are kept. Objects belong to messages: no rule here deletes one by its age.
resource "google_storage_bucket" "bodies" {
  # checkov:skip=CKV_GCP_62:Who reads a body is told by audit logs, which Google prefers to usage logs; they are the project's choice.
  # checkov:skip=CKV_GCP_78:Soft delete keeps what was deleted or overwritten for a week; versions would outlive the mail they are of.

  count = var.body_bucket == null ? 1 : 0

  name                        = "${var.project}-mailmirror-bodies"
  location                    = coalesce(var.storage_location, var.region)
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = !var.delete_protection
  labels                      = local.labels

  # What is deleted or overwritten can be brought back for a week, as in the database.
  soft_delete_policy {
    retention_duration_seconds = 604800
  }

  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }

    condition {
      age = 1
    }
  }

  dynamic "encryption" {
    for_each = var.kms_key[*]

    content {
      default_kms_key_name = encryption.value
    }
  }

  depends_on = [google_project_service.api]
}
