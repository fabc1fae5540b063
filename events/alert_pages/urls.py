"""The paths of the pages of alerts, each with and without its trailing slash."""

from django.urls import re_path

from events.alert_pages.alerts import AlertChange, AlertDelete, AlertList, AlertMute, AlertNew, AlertPage
from events.alert_pages.deliveries import DeliveryAgain, DeliveryLog
from events.alert_pages.targets import TargetChange, TargetDelete, TargetList, TargetNew, TargetSecret, TargetTest

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"

urlpatterns = [
    re_path(r"^alerts/?\Z", AlertList.as_view(), name="alerts"),
    re_path(r"^alerts/new/?\Z", AlertNew.as_view(), name="alert-new"),
    re_path(r"^alerts/(?P<pk>[0-9]{1,18})/?\Z", AlertPage.as_view(), name="alert"),
    re_path(r"^alerts/(?P<pk>[0-9]{1,18})/change/?\Z", AlertChange.as_view(), name="alert-change"),
    re_path(r"^alerts/(?P<pk>[0-9]{1,18})/mute/?\Z", AlertMute.as_view(), name="alert-mute"),
    re_path(r"^alerts/(?P<pk>[0-9]{1,18})/delete/?\Z", AlertDelete.as_view(), name="alert-delete"),
    re_path(r"^alerts/targets/?\Z", TargetList.as_view(), name="alert-targets"),
    re_path(r"^alerts/targets/new/?\Z", TargetNew.as_view(), name="alert-target-new"),
    re_path(r"^alerts/targets/(?P<pk>[0-9]{1,18})/?\Z", TargetChange.as_view(), name="alert-target"),
    re_path(r"^alerts/targets/(?P<pk>[0-9]{1,18})/secret/?\Z", TargetSecret.as_view(), name="alert-target-secret"),
    re_path(r"^alerts/targets/(?P<pk>[0-9]{1,18})/test/?\Z", TargetTest.as_view(), name="alert-target-test"),
    re_path(r"^alerts/targets/(?P<pk>[0-9]{1,18})/delete/?\Z", TargetDelete.as_view(), name="alert-target-delete"),
    re_path(r"^alerts/deliveries/?\Z", DeliveryLog.as_view(), name="alert-deliveries"),
    re_path(rf"^alerts/deliveries/(?P<pk>{_UUID})/again/?\Z", DeliveryAgain.as_view(), name="alert-delivery-again"),
]
