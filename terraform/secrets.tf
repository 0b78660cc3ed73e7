# The OAuth client, for users' own consent. Only the secret is made here: its value is added by hand and is in no state.
resource "google_secret_manager_secret" "oauth_client" {
  count = var.gmail_auth == "oauth" ? 1 : 0

  secret_id = "mailmirror-oauth-client"
  labels    = local.labels

  replication {
    user_managed {
      replicas {
        location = var.region

        dynamic "customer_managed_encryption" {
          for_each = var.kms_key[*]

          content {
            kms_key_name = customer_managed_encryption.value
          }
        }
      }
    }
  }

  depends_on = [google_project_service.api]
}
