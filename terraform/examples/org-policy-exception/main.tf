# Lets Gmail's publisher be granted a role in this one project.

resource "google_project_service" "orgpolicy" {
  service            = "orgpolicy.googleapis.com"
  disable_on_destroy = false
}

# Names the one account, so it may stay. It replaces the organization's rule in this project, which is why the organization is in it.
# https://docs.cloud.google.com/organization-policy/restrict-domains
resource "google_org_policy_policy" "managed" {
  count = contains(var.constraints, "managed") ? 1 : 0

  name   = "projects/${var.project}/policies/iam.managed.allowedPolicyMembers"
  parent = "projects/${var.project}"

  spec {
    rules {
      enforce = "TRUE"
      parameters = jsonencode({
        allowedMemberSubjects = ["serviceAccount:gmail-api-push@system.gserviceaccount.com"]
        allowedPrincipalSets  = ["//cloudresourcemanager.googleapis.com/organizations/${var.organization}"]
      })
    }
  }

  depends_on = [google_project_service.orgpolicy]
}

# Knows customers, not accounts, so it can only be lifted as a whole: take this away once Mailmirror is deployed.
resource "google_org_policy_policy" "legacy" {
  count = contains(var.constraints, "legacy") ? 1 : 0

  name   = "projects/${var.project}/policies/iam.allowedPolicyMemberDomains"
  parent = "projects/${var.project}"

  spec {
    rules {
      allow_all = "TRUE"
    }
  }

  depends_on = [google_project_service.orgpolicy]
}
